"""Encoder + few labels -> predictor. One file a target, one file a strategy; neither knows the other's names.

Adding one is adding a file to `targets/` or `strategies/`: it is found by its name.
"""

from medssl.transfer.features import PIXELS, pixel_features, unit_means
from medssl.transfer.problem import Problem, Strategy, TargetKind
from medssl.transfer.registry import make_head, strategies, strategy, target_kind, target_kinds

__all__ = [
    "PIXELS",
    "Problem",
    "Strategy",
    "TargetKind",
    "make_head",
    "pixel_features",
    "strategies",
    "strategy",
    "target_kind",
    "target_kinds",
    "unit_means",
]
