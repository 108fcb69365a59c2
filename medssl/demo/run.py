"""The embedded default: virtual patients, ingested and run like any other scans."""

from __future__ import annotations

from medssl.config import load_experiment
from medssl.demo.patients import make_virtual_patients
from medssl.experiment import Results, run
from medssl.progress import say
from medssl.workspace import Workspace

PATIENTS, QUICK_PATIENTS = 240, 80
QUICK = [
    "name=demo_quick",
    "cohort.name=demo_quick",
    "cohort.source=virtual_patients_quick",
    "view.slices=3",
    "budgets=[2, 5, 10, all]",
    "draws=3",
    "arms.scratch.strategy.min_steps=6",
    "arms.scratch.strategy.epochs=1",
    *(
        f"pretraining.{name}.{what}"
        for name in ("rotation", "inpainting", "simclr")
        for what in ("steps=10", "batch=64")
    ),
    "pretraining.imagenet_simclr.steps=2",
]


def run_demo(workspace: Workspace, quick: bool = False) -> Results:
    """Make the virtual patients where they are missing, and run `configs/demo.yaml` on them.

    Args:
        workspace: the scans go to `sources/` in it.
        quick: 80 patients and a few steps each, to see that everything works.
    """
    config = load_experiment("demo", QUICK if quick else [])
    say(config.note)
    make_virtual_patients(workspace.path / "sources" / config.cohort.source, QUICK_PATIENTS if quick else PATIENTS)
    return run(config, workspace)
