"""Do 95 % intervals of several labels, grades and numbers hold the truth in about 95 % of simulated experiments?

A unit has a hidden value; the truth of each family is made from it, and so are scores, with errors of the patient (the
same for all draws), of the draw, and of both. The true mean score is that of a test set of 20,000 units over 40 draws.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from medssl.metrics import score_metric
from medssl.statistics import Evidence, Replicates

PATIENTS, DRAWS, IMAGES = (60, 200), 8, 2
METRICS = {
    "regression": ["mae", "rmse", "r2", "pearson", "spearman"],
    "ordinal": ["auc", "kappa", "mae", "accuracy", "brier"],
    "multilabel": ["auc", "average_precision", "brier"],
}
CUTS = {"ordinal": (-0.8, 0.0, 0.8), "multilabel": (0.5, -0.3)}
MIN_CELL = 0.89


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="150 experiments a cell instead of 600")
    options = parser.parse_args()
    started = time.perf_counter()
    experiments, replicates = (150, 300) if options.quick else (600, 1000)
    slack = 3 * (0.95 * 0.05 / experiments) ** 0.5
    rows = []
    for family, metrics in METRICS.items():
        far = simulate(family, 10_000, 40, np.random.default_rng(0))
        truth = {m: float(np.mean(whole(far, m))) for m in metrics}
        for patients in PATIENTS:
            held = dict.fromkeys(metrics, 0)
            for seed in range(experiments):
                evidence = simulate(family, patients, DRAWS, np.random.default_rng([seed, patients]))
                boot = Replicates(evidence, metrics, replicates)
                for metric in metrics:
                    _, low, high = boot.score(("arm", 1, metric))
                    held[metric] += low <= truth[metric] <= high
            rows += [
                {
                    "family": family,
                    "metric": m,
                    "patients": patients,
                    "truth": truth[m],
                    "coverage": held[m] / experiments,
                }
                for m in metrics
            ]
    coverage = [row["coverage"] for row in rows]
    checks = [
        {"name": "coverage", "value": float(np.mean(coverage)), "at_least": 0.93 - slack / 4},
        {"name": "coverage_worst_cell", "value": min(coverage), "at_least": MIN_CELL - slack},
    ]
    seconds = round(time.perf_counter() - started)
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": {"seconds": seconds, "experiments": experiments}}))
    else:
        print("| family | metric | patients | truth | coverage |\n|---|---|---|---|---|")
        for row in rows:
            print("| {family} | {metric} | {patients} | {truth:.3f} | {coverage:.3f} |".format(**row))
        print(
            *(f"{c['name']} {c['value']:.3f}, at least {c['at_least']:.3f}" for c in checks), f"{seconds} s", sep="\n"
        )
    return 0 if all(check["value"] >= check["at_least"] for check in checks) else 1


def whole(evidence: Evidence, metric: str) -> np.ndarray:
    one = np.ones((1, len(evidence.truth)))
    return score_metric(metric, evidence.truth, evidence.scores["arm", 1][0], one, family=evidence.family)


def simulate(family: str, patients: int, draws: int, rng: np.random.Generator) -> Evidence:
    """Evidence of one arm; each patient has `IMAGES` units, half of whose value is the patient's own."""
    owner = np.repeat(np.arange(patients), IMAGES)
    units = len(owner)
    value = np.sqrt(0.5) * rng.normal(size=patients)[owner] + np.sqrt(0.5) * rng.normal(size=units)
    error = 0.5 * rng.normal(size=patients)[owner] + 0.4 * rng.normal(size=(draws, units))
    slope, shift = 0.8 + 0.1 * rng.normal(size=(draws, 1)), 0.1 * rng.normal(size=(draws, 1))
    said = slope * value + shift + error
    columns = ["value"]
    if family == "regression":
        truth, scores = value, said[:, :, None]
    else:
        cuts = np.array(CUTS[family])
        above = 1 / (1 + np.exp(-3 * (said[:, :, None] - cuts)))  # (D, N, K - 1)
        if family == "multilabel":
            truth, scores = (value[:, None] > cuts).astype(np.int64), above
        else:
            ends = np.pad(above, ((0, 0), (0, 0), (1, 1)), constant_values=((0, 0), (0, 0), (1, 0)))
            truth, scores = np.digitize(value, cuts), ends[:, :, :-1] - ends[:, :, 1:]
        columns = [str(c) for c in range(scores.shape[2])]
    cell = {("arm", 1): scores[None]}
    return Evidence(columns, np.arange(units), owner, truth, cell, {("arm", 1): np.arange(draws)}, family=family)


if __name__ == "__main__":
    sys.exit(main())
