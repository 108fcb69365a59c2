"""The embedded default: virtual patients, ingested and run like any other scans."""

from __future__ import annotations

from medssl.config import load_experiment
from medssl.demo.contrasts import make_virtual_contrasts
from medssl.demo.patients import make_virtual_patients
from medssl.experiment import Results, run
from medssl.progress import say
from medssl.workspace import Workspace

PATIENTS, QUICK_PATIENTS = 240, 80
QUICK = ["view.slices=3", "budgets=[2, 5, 10, all]", "draws=3"]
QUICK_ARM = ["strategy.min_steps=6", "strategy.epochs=1"]


def run_demo(workspace: Workspace, quick: bool = False, contrasts: bool = False) -> Results:
    """Make the virtual patients where they are missing, and run `configs/demo.yaml` on them.

    Args:
        workspace: the scans go to `sources/` in it.
        quick: 80 patients and a few steps each, to see that everything works.
        contrasts: two contrasts a patient, and `configs/demo_contrasts.yaml`.
    """
    name = "demo_contrasts" if contrasts else "demo"
    config = load_experiment(name, quick_overrides(name) if quick else [])
    say(config.note)
    make = make_virtual_contrasts if contrasts else make_virtual_patients
    make(workspace.path / "sources" / config.cohort.source, QUICK_PATIENTS if quick else PATIENTS)
    return run(config, workspace)


def quick_overrides(name: str) -> list[str]:
    """What makes a shipped demo quick, in a cohort of its own."""
    config = load_experiment(name)
    few = [f"name={name}_quick", f"cohort.name={name}_quick", f"cohort.source={config.cohort.source}_quick", *QUICK]
    for key, run_ in config.pretraining.items():
        if run_.encoder.startswith("small"):
            few += [f"pretraining.{key}.steps=10", f"pretraining.{key}.batch=64"]
        else:
            few.append(f"pretraining.{key}.steps=2")
    for key, arm in config.arms.items():
        if arm.strategy_name == "finetune" and arm.strategy_settings:
            few += [f"arms.{key}.{what}" for what in QUICK_ARM]
    return few
