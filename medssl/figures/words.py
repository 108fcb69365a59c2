"""How budgets, metrics and numbers are written in figures, tables and the report: the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NOT_ESTIMABLE = "not estimable"
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+.2f')"  # of an axis of differences, as Vega takes it
_METRICS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "dice": "Dice",
    "sensitivity_at_90": "Sensitivity at 90 % specificity",
    "brier": "Brier score",
    "ece": "Calibration error",
    "calibrated_brier": "Brier score, calibrated",
    "calibrated_ece": "Calibration error, calibrated",
    "average_precision": "Average precision",
    "kappa": "Kappa",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "r2": "R²",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "embedding_std": "Spread of embeddings",
    "rankme": "Effective rank",
    "projection_std": "Spread of projections",
    "projection_rankme": "Rank of projections",
    "spread_kept": "Share of the untrained network's spread",
    "knn_auc": "kNN AUC",
    "grad_norm": "Gradient norm",
    "images_per_second": "Images a second",
}
_LONG_METRICS = {"auc": "AUC (macro average)"}


def metric_name(metric: str, long: bool = False) -> str:
    """`auc` -> "AUC"; with `long` what it averages over."""
    short = _METRICS.get(metric, metric.replace("_", " ").capitalize())
    return _LONG_METRICS.get(metric, short) if long else short


def budget_key(budget: Any) -> int | str:
    """A budget as an int or "all", whatever a table or a JSON key made of it; sorts with `budget_rank`."""
    text = str(budget)
    return "all" if text == "all" else int(float(text))


def budget_rank(budget: Any) -> float:
    """Order of budgets: numbers first, "all" last."""
    key = budget_key(budget)
    return math.inf if key == "all" else float(key)


def budget_name(budget: Any, per: str = "class") -> str:
    """`5` -> "5 labels a class"; `all` -> "all labels"."""
    key = budget_key(budget)
    if key == "all":
        return "all labels"
    noun = "label" if key == 1 else "labels"
    return f"{key} {noun} a class" if per == "class" else f"{key} {noun}"


def counts_by_budget(label_counts: Mapping[Any, int]) -> dict[int | str, int]:
    """Labeled units in total for each budget, in the order of budgets."""
    return {budget_key(b): int(label_counts[b]) for b in sorted(label_counts, key=budget_rank)}


def number(value: Any, sign: bool = False) -> str:
    """Three decimals with a true minus sign; "–" where there is no value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{float(value):+.3f}".replace("-", "−") if sign else f"{float(value):.3f}".replace("-", "−")


def interval(low: Any, high: Any, sign: bool = False) -> str:
    """ "[0.812, 0.874]", or "not estimable" where either end is missing."""
    ends = [low, high]
    if any(e is None or (isinstance(e, float) and math.isnan(e)) for e in ends):
        return NOT_ESTIMABLE
    return f"[{number(low, sign)}, {number(high, sign)}]"
