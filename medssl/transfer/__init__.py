"""Encoder + few labels -> predictor. One file a target, one file a strategy; neither knows the other's names.

Adding one is adding a file to `targets/` or `strategies/`: it is found by its name.
"""

from medssl.transfer.features import HANDCRAFTED, PIXELS, pixel_features, unit_means
from medssl.transfer.problem import Heads, OtherLabels, Problem, Strategy
from medssl.transfer.registry import strategies, strategy, target_class, target_kind, target_kinds
from medssl.transfer.target import TargetKind

__all__ = [
    "HANDCRAFTED",
    "PIXELS",
    "Heads",
    "OtherLabels",
    "Problem",
    "Strategy",
    "TargetKind",
    "pixel_features",
    "strategies",
    "strategy",
    "target_class",
    "target_kind",
    "target_kinds",
    "unit_means",
]
