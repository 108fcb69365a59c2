"""Verdicts, and the one sentence that a radiologist reads the same way as a statistician."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medssl.config import LOWER_IS_BETTER
from medssl.statistics.pairs import equivalence, no_worse
from medssl.statistics.readers import Estimate

LEVEL = 0.05  # of a verdict's p
METRIC_WORDS = {
    "auc": "AUC",
    "ece": "calibration error",
    "calibrated_ece": "calibration error after calibration",
    "calibrated_brier": "brier after calibration",
    "mae": "mean absolute error",
    "rmse": "RMSE",
    "r2": "R²",
    "spearman": "Spearman's correlation",
    "pearson": "Pearson's correlation",
}


def verdict(gain: float, p: float) -> str:
    """From the direction of the difference (above 0: better) and its p, corrected for the number of comparisons."""
    if math.isnan(p) or math.isnan(gain):
        return "not estimable"
    if p >= LEVEL:
        return "no evidence"
    return "helps" if gain > 0 else "hurts"


def verdict_sentence(
    row: Mapping, per: str, one_checkpoint: bool, strategies: tuple[str, ...] = (), cross_fitted: str = ""
) -> str:
    """What one row of `differences` says.

    Args:
        row: of `differences`, with `comparisons`: how many were explored, where the row is one of them.
        per: what a budget counts (`class` or `total`).
        one_checkpoint: the arm was pretrained once, so the interval does not hold the variance of pretraining.
        strategies: of arm and baseline; where they differ, the gain is not the encoder's alone.
        cross_fitted: as `Results` says it; the gain is then the recipe's, and no one model's.
    """
    labels = _labels(row["budget"], per) + (f", {cross_fitted}" if cross_fitted else "")
    metric = METRIC_WORDS.get(row["metric"], str(row["metric"]).replace("_", " "))
    size = f"{metric} {row['difference']:+.3f}"
    who = row["arm"] + (" (this checkpoint)" if one_checkpoint else "")
    across = "" if row["same_encoder"] else " Different encoders or input sizes: the gain is not pretraining's alone."
    if len(set(strategies)) > 1:
        across += f" The strategies differ too ({' against '.join(strategies)})."
    if row["verdict"] == "not estimable":
        return f"With {labels}: {who} against {row['baseline']}: {size}, interval not estimable.{across}"
    interval = f"[{row['low']:+.3f}, {row['high']:+.3f}], {_p_words(row)}"
    if row["metric"] in LOWER_IS_BETTER:
        interval += "; lower is better"
    says = {
        "helps": f"{who} helps over {row['baseline']} by {size} {interval}.",
        "hurts": f"{who} hurts against {row['baseline']} by {size} {interval}.",
        "no evidence": f"no evidence of a difference between {who} and {row['baseline']}: {size} {interval}.",
    }[row["verdict"]]
    return f"With {labels}: {says}{across}"


def savings_sentence(row: Mapping, per: str) -> str:
    """What one row of `label_savings` says: how many labels the baseline needs for the arm's score."""
    labels = _labels(row["budget"], per)
    value, low, high = (
        ("" if mark == " " else mark) + f"{row[key]:.1f}"
        for mark, key in zip(row["beyond"], ("factor", "low", "high"), strict=True)
    )
    interval = "interval not estimable" if math.isnan(row["low"]) else f"[{low}, {high}]"
    beyond = " (> or <: beyond the curve of the baseline)" if row["beyond"].strip() else ""
    return (
        f"Labels saved: {row['baseline']} needs {value} times as many labels as {row['arm']} with {labels} "
        f"for the same score, {interval}{beyond}."
    )


def share_sentence(row: Mapping, per: str) -> str:
    """What one row of `full_shares` says."""
    metric = METRIC_WORDS.get(row["metric"], str(row["metric"]).replace("_", " "))
    interval = "interval not estimable" if math.isnan(row["low"]) else f"[{row['low']:.1%}, {row['high']:.1%}]"
    few, most = _labels(row["budget"], per), _labels(row["most"], per)
    best = f"the best {metric} with {most} ({row['best']}, {row['score']:.3f})"
    return f"Share of the best: {row['arm']} with {few} has {row['share']:.1%} of {best}, {interval}."


def margin_sentence(arm: str, baseline: str, metric: str, margin: float, gain: Estimate) -> str:
    """Whether an arm is no worse by a margin, and where it is, whether the two are alike."""
    p, both = no_worse(gain, margin), equivalence(gain, margin)
    if math.isnan(p):
        return f"Whether {arm} is worse than {baseline} by {margin:g} or more is not estimable."
    if both < LEVEL:
        return (
            f"{arm} and {baseline} are equivalent within {margin:g} ({metric}; two one-sided tests, {p_value(both)})."
        )
    says = "is no worse than" if p < LEVEL else "may be worse than"
    return f"{arm} {says} {baseline} by a margin of {margin:g} ({metric}; one-sided {p_value(p)})."


def p_value(p: float) -> str:
    """ "p = .012", "p < .001"."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".", 1) if p < 0.9995 else "p = 1"


def _labels(budget: object, per: str) -> str:
    return "all labels" if budget == "all" else f"{budget} labels" + (" a class" if per == "class" else "")


def _p_words(row: Mapping) -> str:
    words = p_value(row["p_adjusted"])
    if row["claim"]:
        return f"{words}, named beforehand"
    many = int(row["comparisons"])
    return f"{words} after correction for {many} comparisons" if many > 1 else words
