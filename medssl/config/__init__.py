"""What a YAML in `configs/` may say: pydantic models, and errors that name the nearest key.

Tasks, strategies and targets own their part of the schema: each registers its settings model with `register`, and
`settings_for` looks it up by name.
"""

from medssl.config.base import Strict
from medssl.config.models import (
    LOWER_IS_BETTER,
    Arm,
    Budget,
    Claim,
    Experiment,
    Fractions,
    LabelColumns,
    Other,
    Source,
    Target,
)
from medssl.config.pretraining import DEFAULT_STEPS, SUPERVISED, Engine, Pretraining
from medssl.config.reading import apply_overrides, find_config, load_experiment, shipped_configs, validate
from medssl.config.registry import register, registered, settings_for
from medssl.config.tuning import Tuning
from medssl.config.view import View
from medssl.config.weights import weights_file

__all__ = [
    "DEFAULT_STEPS",
    "LOWER_IS_BETTER",
    "Arm",
    "Budget",
    "Claim",
    "Engine",
    "Experiment",
    "Fractions",
    "LabelColumns",
    "Other",
    "Pretraining",
    "SUPERVISED",
    "Source",
    "Strict",
    "Target",
    "Tuning",
    "View",
    "apply_overrides",
    "find_config",
    "load_experiment",
    "register",
    "registered",
    "settings_for",
    "shipped_configs",
    "validate",
    "weights_file",
]
