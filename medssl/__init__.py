"""medssl: does self-supervised pretraining on our own scans help here, and how many labels does it save?

import medssl
cohort = medssl.Cohort.open("medssl_workspace/cohorts/demo")
results = medssl.Results.open("medssl_workspace/experiments/demo")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.cohort import Cohort, Samples
    from medssl.config import View, load_experiment
    from medssl.encoders import Encoder, create_encoder
    from medssl.experiment import Results, run
    from medssl.experiment.predictor import Predictor
    from medssl.ingest import ingest
    from medssl.training import pretrain
    from medssl.workspace import Workspace

__version__ = "0.1.0"

_PLACES = {
    "Cohort": "cohort",
    "Encoder": "encoders",
    "Predictor": "experiment.predictor",
    "Results": "experiment",
    "Samples": "cohort",
    "View": "config",
    "Workspace": "workspace",
    "create_encoder": "encoders",
    "ingest": "ingest",
    "load_experiment": "config",
    "pretrain": "training",
    "run": "experiment",
}
__all__ = [
    "Cohort",
    "Encoder",
    "Predictor",
    "Results",
    "Samples",
    "View",
    "Workspace",
    "create_encoder",
    "ingest",
    "load_experiment",
    "pretrain",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load a room when something of it is first used: torch alone takes seconds."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module 'medssl' has no attribute '{name}'")
    return getattr(importlib.import_module(f"medssl.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
