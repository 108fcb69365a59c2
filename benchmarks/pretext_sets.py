"""The real and virtual scans that pretext tasks are compared on, and which task is measured where.

A new task needs no line here: what it says of itself (sampling, channels, whether it needs tokens) decides its sets and
its encoder. A new set is one entry in `SETS` and one in `sets_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.cohort import Cohort
from medssl.config import Source, View, load_experiment
from medssl.demo import make_virtual_patients
from medssl.demo.run import PATIENTS
from medssl.experiment.prepare import ensure_cohort
from medssl.pretext import PretextTask, task_class
from medssl.workspace import Workspace, write_text

SIZE = 64
SLICES = 12  # of a volume, evenly spaced, are classified; pretraining takes all
VOLUMES = Source(
    name="hippocampus",
    source="hippocampus",
    obtain="Set MEDSSL_DATA to the folder that holds hippocampus.",
)
CONTENT = ("neither", "anterior", "posterior", "both")
OWN_ENCODER = {"cross_channel": "small_split"}  # half of the network sees one half of the channels


@dataclass(frozen=True)
class Set:
    """
    Attributes:
        about: what it is, in a few words.
        config: cohort, target, view and split of an experiment, once the sources are there.
        make: makes the sources in the workspace; quick where they are there.
        volumes: the cohort that is pretrained on where it is not the labeled one; its patients' keys are then the
            labeled cohort's target `volume`.
        tuned: settings of tasks were tuned on its validation part, so that its test part is no confirmation.
    """

    about: str
    config: Callable[[Workspace], dict[str, Any]]
    make: Callable[[Workspace], None] = lambda workspace: None
    volumes: Source | None = None
    tuned: bool = False


def sets_of(task: str) -> list[str]:
    """Where a task is measured."""
    kind = task_class(task)
    if 1 in kind.channels:
        return ["kermany_cxr", "busi"] if kind.sampling == "image" else ["hippocampus_slices", "demo"]
    return ["bccd"] if 3 in kind.channels and len(kind.channels) == 1 else ["demo_contrasts"]


def encoder_of(kind: type[PretextTask]) -> str:
    """The smallest encoder that the task allows."""
    return OWN_ENCODER.get(kind.name, "small_vit" if getattr(kind, "needs_tokens", False) else "small")


def shipped(name: str) -> Callable[[Workspace], dict[str, Any]]:
    """The scans of a shipped config, at the table's size."""

    def config(workspace: Workspace) -> dict[str, Any]:
        raw = load_experiment(name).model_dump(mode="json", include={"cohort", "target", "view", "split"})
        return raw | {"view": raw["view"] | {"size": SIZE}}

    return config


def virtual(workspace: Workspace) -> None:
    make_virtual_patients(workspace.path / "sources" / load_experiment("demo").cohort.source, PATIENTS)


def virtual_contrasts(workspace: Workspace) -> None:
    from medssl.demo import make_virtual_contrasts

    source = load_experiment("demo_contrasts").cohort.source
    make_virtual_contrasts(workspace.path / "sources" / source, PATIENTS)


def of_source(name: str, target: str, channels: int = 1, **columns: Any) -> Callable[[Workspace], dict[str, Any]]:
    """A set whose source was made by this file: pictures and a labels.csv."""

    def config(workspace: Workspace) -> dict[str, Any]:
        labels = {"file": "labels.csv", "scan": "file", **columns}
        return {
            "cohort": {"name": name, "source": name, "labels": labels},
            "target": {"name": target},
            "view": {"size": SIZE, "channels": channels},
        }

    return config


def cells(workspace: Workspace) -> None:
    """bccd: a crop about every cell."""
    from medssl.ingest.crops import cut_crops

    from medssl.experiment.prepare import find_source

    photographs = Source(name="bccd", source="bccd", obtain="Set MEDSSL_DATA to the folder that holds bccd.")
    cut_crops(find_source(photographs, workspace), workspace.path / "sources" / "bccd_cells")


def slices(workspace: Workspace) -> None:
    """hippocampus: every volume's axial slices as pictures, with what its mask has in them."""
    from PIL import Image

    out = workspace.path / "sources" / "hippocampus_slices"
    if (out / "labels.csv").exists():  # written last
        return
    cohort = ensure_cohort(VOLUMES, workspace)
    samples = cohort.samples(View(size=SIZE, slices=SLICES))
    out.mkdir(parents=True, exist_ok=True)
    rows = ["file,patient,volume,content"]
    numbers: dict[str, int] = {}
    for row, (scan, patient, index) in enumerate(samples.table[["scan", "patient", "slice"]].itertuples(index=False)):
        number = numbers.setdefault(patient, len(numbers))
        mask = cohort.mask(scan)
        shown = () if mask is None else np.unique(mask[index])
        file = f"{number:03d}_{index:03d}.png"
        Image.fromarray(np.asarray(samples.images[row, 0])).save(out / file)
        rows.append(f"{file},v{number:03d},{patient},{CONTENT[(1 in shown) + 2 * (2 in shown)]}")
    write_text(out / "labels.csv", "\n".join(rows) + "\n")


def held_out_volumes(labeled: Cohort, test: list[str]) -> frozenset[str]:
    """Keys, in the cohort of volumes, of the patients who are in the test part of the cohort of their slices."""
    scans = labeled.scans()[["scan", "patient"]]
    volume = labeled.labels("volume").merge(scans, on="scan")
    return frozenset(volume.loc[volume["patient"].isin(test), "value"])


SETS: dict[str, Set] = {
    "kermany_cxr": Set("paediatric chest X-rays: normal, bacterial, viral", shipped("kermany_cxr"), tuned=True),
    "busi": Set("breast ultrasound: benign, malignant, normal", shipped("busi")),
    "hippocampus_slices": Set(
        f"axial MR slices, {SLICES} a volume: which parts of the hippocampus they contain",
        of_source("hippocampus_slices", "content", patient="patient", targets=["content", "volume"]),
        slices,
        VOLUMES,
    ),
    "demo": Set("virtual patients: two kinds of brain lesion", shipped("demo"), virtual),
    "bccd": Set(
        "cells of blood smears, in colour",
        of_source("bccd_cells", "label", 3, patient="photograph", targets=["label"]),
        cells,
    ),
    "demo_contrasts": Set("virtual patients in two contrasts", shipped("demo_contrasts"), virtual_contrasts),
}
