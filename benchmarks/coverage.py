"""Whether 95 % intervals hold the truth in 95 % of experiments, and how often an A/A experiment shows a verdict.

    python benchmarks/coverage.py [--json] [--quick] [--only fixed|cross_fitted]

Experiments are simulated with known truth. The score of a unit is separation of the draw, plus an effect of the
patient (shared by the patient's images and by all draws and arms), plus one of patient and draw, plus noise, so that
the AUC of an arm over all draws and patients is known in closed form. Eight shapes, from 5 to 20 draws and from 30 to
600 test patients with one to five images each, are run with the draws dominating and with the patients dominating.
Intervals and verdicts are those of `medssl.statistics.tables`, as an experiment shows them.

Cross-fitted experiments are those of `coverage_folds.py`, with real models.

The full run takes about 25 minutes on 2 cores. --quick runs fewer experiments, and its bounds give way by three
standard errors of that number.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from typing import NamedTuple

import numpy as np
from coverage_folds import cross_fitted
from joblib import Parallel, delayed
from scipy import stats

from medssl.config import Claim
from medssl.statistics import Evidence, Replicates, differences

MIN_CELL, MIN_DRAWS = 0.91, 10
AVERAGE = (0.93, 0.97)
AA_AT_MOST = 0.065


class Cell(NamedTuple):
    """Draws, test patients, most images a patient, what dominates, AUC of the baseline, gain of the other arm."""

    draws: int
    patients: int
    images: int
    kind: str
    auc: float
    gain: float


SHAPES = [
    (5, 30, 1, 0.80, 0.05),
    (5, 100, 5, 0.90, 0.03),
    (5, 600, 1, 0.80, 0.05),
    (10, 30, 5, 0.80, 0.05),
    (10, 100, 1, 0.92, 0.03),
    (10, 300, 5, 0.80, 0.05),
    (20, 30, 1, 0.90, 0.03),
    (20, 600, 3, 0.80, 0.05),
]
CELLS = [Cell(d, p, i, kind, auc, gain) for kind in ("draws", "patients") for d, p, i, auc, gain in SHAPES]
SIZES = {
    "draws": (0.35, 0.2, 0.2),
    "patients": (0.08, 0.7, 0.1),
}  # SD of separation; variances of patient, both


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="150 experiments a cell instead of 1,000")
    parser.add_argument("--only", choices=["fixed", "cross_fitted"], help="one test part, or folds")
    options = parser.parse_args()
    started = time.perf_counter()
    experiments, replicates = (150, 500) if options.quick else (1000, 1000)
    slack = 3 * (0.95 * 0.05 / experiments) ** 0.5 if options.quick else 0.0
    workers = Parallel(n_jobs=os.cpu_count())
    rows, checks, tables = [], [], []
    for family in (fixed, cross_fitted):
        if options.only in (None, family.__name__):
            found = family(workers, experiments, replicates, slack)
            rows, checks, tables = rows + found[0], checks + found[1], [*tables, found[2]]
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "seconds": round(time.perf_counter() - started),
    }
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": {**machine, "experiments": experiments}}))
    else:
        print("\n\n".join(tables), "", *(sentence(check) for check in checks), f"{machine['seconds']} s", sep="\n")
    return 0 if all(map(holds, checks)) else 1


def fixed(workers: Parallel, experiments: int, replicates: int, slack: float) -> tuple[list[dict], list[dict], str]:
    """Rows, checks and table of experiments with one test part."""
    rows = []
    for cell in CELLS:
        hits = np.array(workers(delayed(one)(cell, seed, replicates) for seed in range(experiments)))
        rows.append({**cell._asdict(), "score": float(hits[:, 0].mean()), "difference": float(hits[:, 1].mean())})
    aa = np.array(workers(delayed(aa_experiment)(seed, replicates) for seed in range(experiments)))
    checks = [
        *coverage_checks("score", rows, slack),
        *coverage_checks("difference", rows, slack),
        {"name": "aa_false_helps", "value": float(aa[:, 0].mean()), "at_most": AA_AT_MOST + slack},
    ]
    rows.append({"kind": "A/A with a claim", "false_claims": float(aa[:, 1].mean()), "any": float(aa[:, 2].mean())})
    return rows, checks, table(rows)


def one(cell: Cell, seed: int, replicates: int) -> tuple[bool, bool]:
    """Whether the intervals of one experiment hold the truth: (score of the arm, difference to the baseline)."""
    evidence, truth = simulate(cell, 2, (1,), np.random.default_rng([seed, CELLS.index(cell)]))
    boot = Replicates(evidence, ["auc"], replicates)
    _, low, high = boot.score(("arm1", 1, "auc"))
    row = differences(boot, ["arm0"], {("arm1", "arm0"): True}).iloc[0]
    return low <= truth[1] <= high, row["low"] <= truth[1] - truth[0] <= row["high"]


def aa_experiment(seed: int, replicates: int) -> tuple[bool, bool, bool]:
    """Four arms that are all alike, at five budgets: (any verdict without a claim; with one: a false claim, any)."""
    cell = Cell(10, 150, 2, ("draws", "patients")[seed % 2], 0.85, 0.0)
    evidence, _ = simulate(cell, 4, (1, 2, 3, 4, 5), np.random.default_rng([seed, 99]))
    boot = Replicates(evidence, ["auc"], replicates)
    same = {(f"arm{i}", "arm0"): True for i in range(4)}
    said = differences(boot, ["arm0"], same)["verdict"].isin(["helps", "hurts"])
    claimed = differences(boot, ["arm0"], same, Claim(arm="arm1", baseline="arm0", budget=3))
    with_claim = claimed["verdict"].isin(["helps", "hurts"])
    return bool(said.any()), bool(with_claim[claimed["claim"]].any()), bool(with_claim.any())


def simulate(cell: Cell, arms: int, budgets: tuple[int, ...], rng: np.random.Generator) -> tuple[Evidence, list[float]]:
    """An experiment's evidence, and the true mean AUC of each arm. Budgets share patients; their draws are alike."""
    images = rng.integers(1, cell.images + 1, cell.patients)
    patients = np.repeat(np.arange(cell.patients), images)
    truth = patients % 2
    spread, of_patient, of_both = SIZES[cell.kind]
    noise = np.sqrt(1 - of_patient - of_both)
    common_patient, common_draw = rng.normal(size=cell.patients), rng.normal(size=cell.draws)
    scores, expected = {}, []
    for arm in range(arms):
        expected.append(cell.auc + arm * cell.gain)
        mean = stats.norm.ppf(expected[-1]) * np.sqrt(2 + spread**2)
        own = np.sqrt(0.8) * common_patient + np.sqrt(0.2) * rng.normal(size=cell.patients)
        for budget in budgets:
            chance = np.sqrt(0.5) * common_draw + np.sqrt(0.5) * rng.normal(size=cell.draws)
            logits = truth * (mean + spread * chance)[:, None] + np.sqrt(of_patient) * own[patients]
            logits = logits + np.sqrt(of_both) * rng.normal(size=(cell.draws, cell.patients))[:, patients]
            logits = logits + noise * rng.normal(size=logits.shape)
            scores[f"arm{arm}", budget] = np.stack([-logits, logits], 2)[None]
    draws = {key: np.arange(cell.draws) for key in scores}
    return Evidence(["no", "yes"], np.arange(len(truth)), patients, truth, scores, draws), expected


def coverage_checks(what: str, rows: list[dict], slack: float) -> list[dict]:
    average = float(np.mean([row[what] for row in rows]))
    worst = min(row[what] for row in rows if row["draws"] >= MIN_DRAWS)
    return [
        {"name": f"{what}_coverage", "value": average, "at_least": AVERAGE[0] - slack / 4},
        {"name": f"{what}_coverage", "value": average, "at_most": AVERAGE[1] + slack / 4},
        {"name": f"{what}_coverage_worst_cell", "value": worst, "at_least": MIN_CELL - slack},
    ]


def holds(check: dict) -> bool:
    return check["value"] >= check["at_least"] if "at_least" in check else check["value"] <= check["at_most"]


def table(rows: list[dict]) -> str:
    lines = [
        "| draws | patients | images | dominated by | AUC | score | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        "| {draws} | {patients} | 1 to {images} | {kind} | {auc:.2f} | {score:.3f} | {difference:.3f} |".format(**row)
        for row in rows[:-1]
    ]
    last = "A/A with a claim: {false_claims:.3f} of experiments show a false claim, {any:.3f} any verdict."
    return "\n".join([*lines, "", last.format(**rows[-1])])


def sentence(check: dict) -> str:
    word, bound = ("at least", check["at_least"]) if "at_least" in check else ("at most", check["at_most"])
    return f"{check['name']} = {check['value']:.3f}, {word} {bound:.3f}: {'holds' if holds(check) else 'FAILS'}"


if __name__ == "__main__":
    sys.exit(main())
