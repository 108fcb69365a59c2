"""Questions for people about real scans, with the answers of a trained network (`reader_test.py`)."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from medssl.augment import RowGenerator
from medssl.cohort import Cohort
from medssl.errors import UserError
from medssl.pretext import Batch, PretextTask
from medssl.pretext.questions import Question, which_is_real
from medssl.training.feed import Feed
from medssl.training.loop import FLOOR
from medssl.training.plan import Request
from medssl.training.sampling import Sampling
from medssl.training.show import restored
from medssl.workspace import digest

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["question", "real"]

QUIZ = FLOOR + 1  # keeps the draws of a quiz apart from those of training steps and of the floor
SPARE = 2  # times as many patients as questions: some have nothing to ask about
REAL = "Which of these images is the real one?"


class Asked(NamedTuple):
    """
    Attributes:
        task: its name.
        steps: that the network was trained for.
        sentence: what is asked.
        questions: one a patient.
        unseen: whether the network learned from none of these patients.
        key: names these questions; equal for equal ones.
    """

    task: str
    steps: int
    sentence: str
    questions: list[Question]
    unseen: bool
    key: str


def ask(cohort: Cohort, checkpoint: Path, *, kind: Kind, count: int, seed: int) -> Asked:
    """Questions about scans of as many patients, drawn by the seed. No label is read.

    They are about patients that the network has not learned from, where there are enough: it has met the others, and
    the person has not.

    Args:
        cohort: whose scans are asked about.
        checkpoint: of `pretrain`; `patients.json` beside it says from whom it learned.
        kind: the task's own `question`, or which of two images is `real` and which one the network's.
        count: questions; there are fewer where fewer patients have something to ask about.
        seed: of patients, images and questions.

    Raises:
        UserError: the task has no such questions, or none about these scans.
    """
    request, task, steps = restored(cohort, checkpoint, seed)
    _refuse(task, kind)
    table, sampling, group = request.samples.table, task.sampling, task.group_size(task.settings)
    seen_by = checkpoint.parent / "patients.json"
    learned = frozenset(json.loads(seen_by.read_text())) if seen_by.is_file() else frozenset(table["patient"])
    keep, unseen = one_each(table, sampling, group, count, learned, seed)
    batch = _batch(request, task, keep, seed)
    generator = RowGenerator(seed, QUIZ, batch.rows)
    with torch.no_grad():
        if kind == "question":
            sentence, questions = task.question, task.ask(batch, generator)
        else:
            sentence, (real, made) = REAL, task.made(batch, generator)
            questions = which_is_real(real, made, task.judge(torch.cat([real, made])), generator)
    if not questions:
        what = f"'{task.name}' finds nothing to ask about in these scans"
        raise UserError(what, cohort.name, "Take another cohort, or an encoder of another task.")
    questions = questions[:count]
    about = [request.samples.key, steps, kind, seed, keep.tolist(), [q.truth for q in questions]]
    return Asked(task.name, steps, sentence, questions, unseen, digest(about))


def one_each(
    table: pd.DataFrame, sampling: str, group: int, count: int, learned: Set[str], seed: int
) -> tuple[np.ndarray, bool]:
    """Rows of an image of each of some patients drawn at random; for `stack` of a scan, for `exam` of an exam.

    Args:
        table: one row a sample with patient, scan and exam.
        sampling: of the task.
        group: images that are needed together.
        count: patients that are wanted; where there are more, some to spare are drawn.
        learned: patients that the network has learned from, taken only where the others are fewer than `count`.

    Returns:
        Rows in ascending order, and whether they are of no patient in `learned`.

    Raises:
        UserError: nobody has enough images.
    """
    rng = np.random.default_rng(seed)
    owner = {"image": None, "stack": "scan", "exam": "exam"}[sampling]
    groups = table.groupby("patient", sort=True).indices
    rows: dict[str, np.ndarray] = {str(patient): np.asarray(own) for patient, own in groups.items()}
    if owner is not None:
        sizes = table.groupby(owner)[owner].transform("size").to_numpy()
        rows = {patient: own[sizes[own] >= group] for patient, own in rows.items()}
    able = [patient for patient, own in rows.items() if len(own)]
    if not able:
        raise UserError(f"no {owner or 'scan'} has the {group} images that this task needs", "samples")
    new = [patient for patient in able if patient not in learned]
    unseen = len(new) >= min(count, len(able))
    pool = new if unseen else able
    chosen = []
    for patient in rng.permutation(len(pool))[: SPARE * count]:
        own = rows[pool[patient]]
        one = own[rng.integers(len(own))]
        chosen.append([one] if owner is None else own[table[owner].to_numpy()[own] == table[owner].iloc[one]])
    return np.sort(np.concatenate(chosen)), unseen


def _refuse(task: PretextTask, kind: Kind) -> None:
    if kind == "question" and not task.question:
        raise UserError(f"'{task.name}' asks nothing that a person could answer", "task", "Take another encoder.")
    if kind == "real" and not task.makes_images():
        fix = "Take an encoder that paints: inpainting, colorization, cross_channel, mae, ..."
        raise UserError(f"'{task.name}' makes no images that could be told from real ones", "task", fix)


def _batch(request: Request, task: PretextTask, keep: np.ndarray, seed: int) -> Batch:
    """One item of each patient."""
    samples, group = request.samples, task.group_size(task.settings)
    items = Sampling(samples.table, keep, task.sampling, group, 1, seed).count
    sampling = Sampling(samples.table, keep, task.sampling, group, items, seed)
    batch = Feed(samples.images, samples.table, keep, sampling, request.fabric.device, workers=0, hold=False)(0)
    patients = batch.patient.tolist()
    first = torch.tensor(sorted(patients.index(patient) for patient in set(patients)), device=batch.rows.device)
    return Batch(**{name: value[first] for name, value in vars(batch).items()})
