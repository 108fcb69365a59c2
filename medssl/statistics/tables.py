"""From evidence to the tables that terminal, app, notebook and report show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from medssl.metrics import METRICS
from medssl.statistics.evidence import Evidence
from medssl.statistics.intervals import MIN_DRAWS, MIN_UNITS_A_CLASS, crossed_bootstrap, percentile_interval

SEED = 20_260  # of the resampling: fixed, so that the same evidence always gives the same interval
SCORE_COLUMNS = ["arm", "budget", "metric", "score", "low", "high", "draws", "units", "patients"]
DIFFERENCE_COLUMNS = [
    "arm",
    "baseline",
    "budget",
    "metric",
    "difference",
    "low",
    "high",
    "verdict",
    "same_encoder",
]


class Replicates:
    """The bootstrap of every (arm, budget, metric), computed once and used by both tables."""

    def __init__(self, evidence: Evidence, metrics: Iterable[str], replicates: int) -> None:
        self.evidence, self.metrics = evidence, list(metrics)
        self.estimable = bool(np.bincount(evidence.truth, minlength=len(evidence.classes)).min() >= MIN_UNITS_A_CLASS)
        self.point: dict[tuple, np.ndarray] = {}
        self.boot: dict[tuple, np.ndarray] = {}
        for (arm, budget), scores in evidence.scores.items():
            for metric in self.metrics:
                key = (arm, budget, metric)
                self.point[key], self.boot[key] = crossed_bootstrap(
                    METRICS[metric], evidence.truth, scores, evidence.patients, replicates, SEED
                )

    def interval(self, boot: np.ndarray, draws: int) -> tuple[float, float]:
        if draws < MIN_DRAWS or not self.estimable:
            return float("nan"), float("nan")
        return percentile_interval(boot)


def scores(boot: Replicates) -> pd.DataFrame:
    """Mean score of each arm at each budget over draws, with its pointwise 95 % interval (NaN: not estimable)."""
    evidence, rows = boot.evidence, []
    patients = int(evidence.patients.max()) + 1
    for (arm, budget, metric), point in boot.point.items():
        low, high = boot.interval(boot.boot[arm, budget, metric], len(point))
        rows.append((arm, budget, metric, float(point.mean()), low, high, len(point), len(evidence.units), patients))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def differences(
    boot: Replicates, baselines: Iterable[str], same_encoder: Mapping[tuple[str, str], bool]
) -> pd.DataFrame:
    """Paired differences to each baseline on the same patients and draws, with verdicts.

    Args:
        boot: the bootstrap of all arms.
        baselines: arms to compare with.
        same_encoder: (arm, baseline) -> whether both have the same encoder and input size.
    """
    rows = []
    for baseline in baselines:
        for (arm, budget, metric), point in boot.point.items():
            key = (baseline, budget, metric)
            if arm == baseline or key not in boot.point:
                continue
            if not np.array_equal(boot.evidence.draws[arm, budget], boot.evidence.draws[baseline, budget]):
                continue  # a run that is not finished: a pair on different draws would not be a pair
            gain = float((point - boot.point[key]).mean())
            low, high = boot.interval(boot.boot[arm, budget, metric] - boot.boot[key], len(point))
            same = same_encoder[arm, baseline]
            rows.append((arm, baseline, budget, metric, gain, low, high, verdict(low, high), same))
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


def verdict(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "not estimable"
    return "helps" if low > 0 else "hurts" if high < 0 else "no evidence"


def verdict_sentence(row: Mapping, per: str, one_checkpoint: bool, strategies: tuple[str, ...] = ()) -> str:
    """One sentence that a radiologist reads the same way as a statistician.

    Args:
        row: a row of `differences`.
        per: what a budget counts (`class` or `total`).
        one_checkpoint: the arm was pretrained once, so the interval does not hold the variance of pretraining.
        strategies: of arm and baseline; where they differ, the gain is not the encoder's alone.
    """
    labels = (
        "all labels" if row["budget"] == "all" else f"{row['budget']} labels" + (" a class" if per == "class" else "")
    )
    metric = "AUC" if row["metric"] == "auc" else row["metric"]
    size = f"{metric} {row['difference']:+.3f}"
    who = row["arm"] + (" (this checkpoint)" if one_checkpoint else "")
    across = "" if row["same_encoder"] else " Different encoders or input sizes: the gain is not pretraining's alone."
    if len(set(strategies)) > 1:
        across += f" The strategies differ too ({' against '.join(strategies)})."
    if row["verdict"] == "not estimable":
        return f"With {labels}: {who} against {row['baseline']}: {size}, interval not estimable.{across}"
    interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    says = {
        "helps": f"{who} helps over {row['baseline']} by {size} {interval}.",
        "hurts": f"{who} hurts against {row['baseline']} by {size} {interval}.",
        "no evidence": f"no evidence of a difference between {who} and {row['baseline']}: {size} {interval}.",
    }[row["verdict"]]
    return f"With {labels}: {says}{across}"
