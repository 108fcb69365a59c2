"""The real and virtual scans that pretext tasks are compared on, and which task is measured where.

A new task needs no line here: what it says of itself (sampling, channels, whether it needs tokens) decides its sets and
its encoder. A new set is one entry in `SETS` and one in `sets_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medssl.cohort import Cohort
from medssl.cohort.contents import slice_contents
from medssl.config import Source, View, load_experiment
from medssl.demo import make_virtual_patients
from medssl.demo.run import PATIENTS
from medssl.experiment.prepare import ensure_cohort, find_source
from medssl.pretext import PretextTask, task_class
from medssl.workspace import Workspace, write_text

SIZE, BATCH = 64, 128
SLICES = 12  # of a volume, evenly spaced, are classified; pretraining takes all
VOLUMES = Source(
    name="hippocampus",
    source="hippocampus",
    obtain="Set MEDSSL_DATA to the folder that holds hippocampus.",
)
CONTENT = {"none": "neither", "1": "anterior", "2": "posterior", "1+2": "both"}
PHOTOGRAPHS = Source(name="bccd", source="bccd", obtain="Set MEDSSL_DATA to the folder that holds bccd.")
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
        settings: of every task on this set.
        imagenet: sizes at which ImageNet features stand beside, the set's own first.
        tuned: tasks that were tuned on its validation part before trials were kept; like those with trials, their rows
            here are no confirmation.
    """

    about: str
    config: Callable[[], dict[str, Any]]
    make: Callable[[Workspace], None] = lambda workspace: None
    volumes: Source | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    imagenet: tuple[int, ...] = (SIZE,)
    tuned: tuple[str, ...] = ()


def sets_of(task: str) -> list[str]:
    """Where a task is measured."""
    kind = task_class(task)
    if 1 in kind.channels:
        return ["kermany_cxr", "busi"] if kind.sampling == "image" else ["hippocampus_slices", "demo"]
    return ["bccd"] if 3 in kind.channels and len(kind.channels) == 1 else ["demo_contrasts"]


def encoder_of(kind: type[PretextTask]) -> str:
    """The smallest encoder that the task allows."""
    return OWN_ENCODER.get(kind.name, "small_vit" if kind.needs_tokens else "small")


def shipped(name: str) -> Callable[[], dict[str, Any]]:
    """The scans of a shipped config, at the table's size."""

    def config() -> dict[str, Any]:
        raw = load_experiment(name).model_dump(mode="json", include={"cohort", "target", "view", "split"})
        return raw | {"view": raw["view"] | {"size": SIZE}}

    return config


def virtual(workspace: Workspace) -> None:
    make_virtual_patients(workspace.path / "sources" / load_experiment("demo").cohort.source, PATIENTS)


def virtual_contrasts(workspace: Workspace) -> None:
    from medssl.demo import make_virtual_contrasts

    make_virtual_contrasts(workspace.path / "sources" / contrasts()["cohort"]["source"], 2 * PATIENTS)


def contrasts() -> dict[str, Any]:
    """The shipped config with twice its patients: a tenth of them is too few to tune by."""
    raw = shipped("demo_contrasts")()
    return raw | {"cohort": raw["cohort"] | {"name": "demo_contrasts_twice", "source": "virtual_contrasts_twice"}}


def cells(workspace: Workspace) -> None:
    """bccd: a crop about every cell."""
    from medssl.ingest.crops import cut_crops

    out = workspace.path / "sources" / load_experiment("bccd").cohort.source
    if not (out / "labels.csv").exists():
        cut_crops(find_source(PHOTOGRAPHS, workspace), out)


def slices(workspace: Workspace) -> None:
    """hippocampus: axial slices as pictures, with what the volume's mask has in them."""
    from PIL import Image

    out = workspace.path / "sources" / "hippocampus_slices"
    if (out / "labels.csv").exists():  # written last
        return
    cohort = ensure_cohort(VOLUMES, workspace)
    samples = cohort.samples(View(size=SIZE, slices=SLICES))
    found = slice_contents(cohort, samples).assign(slice=samples.table["slice"])
    numbers = {patient: number for number, patient in enumerate(found["patient"].unique())}
    out.mkdir(parents=True, exist_ok=True)
    rows = ["file,patient,volume,content"]
    for image, row in zip(samples.images[:, 0], found.itertuples(), strict=True):
        name = f"v{numbers[row.patient]:03d}"
        Image.fromarray(np.asarray(image)).save(out / f"{name}_{row.slice:03d}.png")
        rows.append(f"{name}_{row.slice:03d}.png,{name},{row.patient},{CONTENT[row.label]}")
    write_text(out / "labels.csv", "\n".join(rows) + "\n")


def content() -> dict[str, Any]:
    labels = {"file": "labels.csv", "scan": "file", "patient": "patient", "targets": ["content", "volume"]}
    return {
        "cohort": {"name": "hippocampus_slices", "source": "hippocampus_slices", "labels": labels},
        "target": {"name": "content"},
        "view": {"size": SIZE},
    }


def held_out_volumes(labeled: Cohort, test: list[str]) -> frozenset[str]:
    """Keys, in the cohort of volumes, of the patients who are in the test part of the cohort of their slices."""
    scans = labeled.scans()[["scan", "patient"]]
    volume = labeled.labels("volume").merge(scans, on="scan")
    return frozenset(volume.loc[volume["patient"].isin(test), "value"])


SETS: dict[str, Set] = {
    "kermany_cxr": Set(
        "paediatric chest X-rays: normal, bacterial, viral",
        shipped("kermany_cxr"),
        imagenet=(SIZE, 224),
        tuned=("inpainting", "rotation", "simclr"),
    ),
    "busi": Set("breast ultrasound: benign, malignant, normal", shipped("busi"), imagenet=(SIZE, 224)),
    "hippocampus_slices": Set(
        f"axial MR slices, {SLICES} a volume: which parts of the hippocampus they contain",
        content,
        slices,
        VOLUMES,
    ),
    "demo": Set("virtual patients: two kinds of brain lesion", shipped("demo"), virtual),
    "bccd": Set("cells of blood smears, in colour", shipped("bccd"), cells, settings={"preset": "microscopy"}),
    "demo_contrasts": Set("virtual patients in two contrasts", contrasts, virtual_contrasts, imagenet=()),
}
