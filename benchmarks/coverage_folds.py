"""Whether 95 % intervals of cross-fitted experiments hold the truth; a part of `coverage.py`, which runs it.

Models are real: ridge regressions on simulated features, trained and tested in the folds of `draw_folds`. The truth is
the mean area, in closed form, over 2,000 training sets of other patients, as large as all folds but one: what is to be
expected of the recipe at that number of labels. Beside the product's interval for differences the table has two that
were not taken: the covariance over patients not doubled, and the corrected resampled t of Nadeau & Bengio (2003).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

from medssl.cohort.folds import draw_folds
from medssl.metrics import score_metric
from medssl.statistics import Evidence, Replicates
from medssl.statistics.intervals import ROLES

MIN_CELL, MIN_AVERAGE = 0.91, 0.93


class Few(NamedTuple):
    """Labeled patients of both classes, most images of each, folds, repeats; features; strength of the signal in both
    arms; share of the noise that arms have in common; how far a training seed turns a model (1: by 45 degrees)."""

    without: int
    with_lesion: int
    images: int
    folds: int
    repeats: int
    features: int
    strengths: tuple[float, float]
    shared: float
    turned: float


FEW = [
    Few(15, 15, 1, 5, 5, 20, (0.8, 1.1), 0.5, 0.0),
    Few(20, 20, 1, 5, 5, 20, (1.3, 1.6), 0.5, 0.0),
    Few(20, 20, 1, 5, 5, 64, (0.8, 0.8), 0.0, 0.0),
    Few(45, 15, 3, 5, 4, 20, (0.7, 0.9), 0.8, 0.0),
    Few(20, 20, 1, 10, 3, 64, (0.9, 1.2), 0.5, 0.5),
    Few(20, 20, 3, 2, 10, 20, (0.9, 0.9), 1.0, 1.0),
    Few(40, 40, 1, 5, 5, 200, (0.7, 0.9), 0.5, 0.0),
    Few(60, 60, 2, 3, 5, 10, (0.5, 0.6), 0.8, 0.3),
]


def cross_fitted(
    workers: Parallel, experiments: int, replicates: int, slack: float
) -> tuple[list[dict], list[dict], str]:
    """Rows, checks and table. A score that has no interval (all pairs in order) is counted, and not as a miss."""
    rows = []
    for cell in FEW:
        truth = expected(cell, np.random.default_rng([FEW.index(cell), 7]))
        found = np.array(workers(delayed(few)(cell, truth, seed, replicates) for seed in range(experiments)))
        given = ~np.isnan(found[:, 0])
        names = ("difference", "not_doubled", "nadeau_bengio")
        rows.append(
            {**cell._asdict(), "kind": "cross-fitted", "truth": truth.round(3).tolist()}
            | {"score": float((found[given, 0] > 0).mean()), "no_interval": float((~given).mean())}
            | {name: float((found[:, 1 + i] <= found[:, 4 + i]).mean()) for i, name in enumerate(names)}
            | {f"{name}_width": 2 * float(found[:, 4 + i].mean()) for i, name in enumerate(names)}
        )
    checks = []
    for what in ("score", "difference"):
        covers = [row[what] for row in rows]
        checks += [
            {
                "name": f"cross_fitted_{what}_coverage",
                "value": float(np.mean(covers)),
                "at_least": MIN_AVERAGE - slack / 4,
            },
            {"name": f"cross_fitted_{what}_coverage_worst_cell", "value": min(covers), "at_least": MIN_CELL - slack},
        ]
    lines = [
        "| patients | images | folds x repeats | features | AUC | score | difference | not doubled | Nadeau-Bengio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    shape = "| {without} + {with_lesion} | 1 to {images} | {folds} x {repeats} | {features} "
    held = "| {truth[0]:.2f}, {truth[1]:.2f} | {score:.3f} | {difference:.3f} ({difference_width:.2f}) "
    last = "| {not_doubled:.3f} ({not_doubled_width:.2f}) | {nadeau_bengio:.3f} ({nadeau_bengio_width:.2f}) |"
    lines += [(shape + held + last).format(**row) for row in rows]
    return rows, checks, "\n".join([*lines, "", "In brackets: mean width."])


def few(cell: Few, truth: np.ndarray, seed: int, replicates: int) -> list[float]:
    """One cross-fitted experiment: whether the score's interval holds the truth (NaN: there is none), the error of the
    difference three times, and half the width of its three intervals."""
    rng = np.random.default_rng([seed, 50 + FEW.index(cell)])
    features, lesion, patients = labeled(cell, (cell.without, cell.with_lesion), rng)
    units = pd.DataFrame({"unit": np.arange(len(lesion)), "patient": patients, "label": lesion})
    ties = pd.DataFrame({"patient": np.unique(patients), "ties": [[] for _ in np.unique(patients)]})
    partition = draw_folds(units, ties, cell.folds, cell.repeats, seed)
    folds = np.zeros((cell.repeats, len(lesion)), int)
    scores = np.zeros((2, cell.repeats, len(lesion)))
    for repeat, fold in np.ndindex(folds.shape[0], cell.folds):
        tested = np.isin(units["unit"], partition[repeat][fold])
        folds[repeat, tested] = fold
        for arm in range(2):
            weights = ridge(features[arm][~tested], lesion[~tested], cell.turned, rng)
            scores[arm, repeat, tested] = features[arm][tested] @ weights
    both = {(f"arm{arm}", "all"): np.stack([-scores[arm], scores[arm]], 2)[None] for arm in range(2)}
    draws = {key: np.arange(cell.repeats) for key in both}
    evidence = Evidence(["no", "yes"], np.arange(len(lesion)), patients, lesion, both, draws, folds)
    boot = Replicates(evidence, ["auc"], replicates)
    _, low, high = boot.score(("arm1", "all", "auc"))
    hit = np.nan if np.isnan(low) else float(low <= truth[1] <= high)
    pair = boot.paired(("arm1", "all", "auc"), ("arm0", "all", "auc"))
    value, low, high, _ = boot.difference(*pair)
    error = abs(value - (truth[1] - truth[0]))
    return [hit, error, error, error, (high - low) / 2, *others(boot, pair, both)]


def others(boot: Replicates, pair: tuple[np.ndarray, np.ndarray], both: dict) -> list[float]:
    """Half the widths of two other intervals of the difference: not doubled, and Nadeau & Bengio's."""
    evidence, repeats = boot.evidence, pair[0].shape[1]
    estimate = boot.estimate(*pair)
    over_repeats = float(pair[0].var(ddof=1)) / repeats
    single = over_repeats + (estimate.se**2 - over_repeats) / ROLES
    gaps = []
    for repeat, fold in np.ndindex(*evidence.folds.shape[:1], int(evidence.folds.max()) + 1):
        own = evidence.folds[repeat] == fold
        areas = [
            score_metric(
                "auc", evidence.truth[own], both[f"arm{a}", "all"][0, [repeat]][:, own], np.ones((1, own.sum()))
            )
            for a in range(2)
        ]
        gaps.append((areas[1] - areas[0]).item())
    corrected = (1 / len(gaps) + 1 / (len(gaps) / repeats - 1)) * np.var(gaps, ddof=1)
    return [
        float(stats.t.ppf(0.975, estimate.df) * single**0.5),
        float(stats.t.ppf(0.975, len(gaps) - 1) * corrected**0.5),
    ]


def labeled(cell: Few, sizes: tuple[int, int], rng: np.random.Generator) -> tuple[list, np.ndarray, np.ndarray]:
    """Features (N, features) of both arms, lesion (N,) 0 or 1, patients (N,) of so many patients without and with."""
    of_patient = np.repeat([0, 1], sizes)
    patients = np.repeat(np.arange(len(of_patient)), rng.integers(1, cell.images + 1, len(of_patient)))
    lesion = of_patient[patients]
    share = 0.5 if cell.images > 1 else 0.0  # of the variance between patients

    def noise() -> np.ndarray:
        between = rng.normal(size=(len(of_patient), cell.features))[patients]
        return share**0.5 * between + (1 - share) ** 0.5 * rng.normal(size=(len(patients), cell.features))

    common, arms = noise(), []
    for strength in cell.strengths:
        own = cell.shared**0.5 * common + (1 - cell.shared) ** 0.5 * noise()
        arms.append(own + np.outer(2 * lesion - 1, direction(cell, strength)))
    return arms, lesion, patients


def direction(cell: Few, strength: float) -> np.ndarray:
    """Half the distance between the classes' means: in the first five features."""
    return np.where(np.arange(cell.features) < 5, strength / 5**0.5, 0.0)


def ridge(features: np.ndarray, lesion: np.ndarray, turned: float, rng: np.random.Generator) -> np.ndarray:
    """Weights of a ridge regression with balanced classes and the probe's penalty, turned by the training seed."""
    centred = features - features.mean(0)
    sign = np.where(lesion == 1, 1 / lesion.mean(), -1 / (1 - lesion.mean())) / 2
    system = centred.T @ centred + 0.2 * features.shape[1] * np.eye(features.shape[1])
    weights = np.linalg.solve(system, centred.T @ sign)
    chance = rng.normal(size=len(weights))
    return weights / np.linalg.norm(weights) + turned * chance / np.linalg.norm(chance)


def expected(cell: Few, rng: np.random.Generator) -> np.ndarray:
    """(2,) area to be expected of each arm's model, trained on as many patients as are in all folds but one."""
    areas = np.zeros((2000, 2))
    for row in areas:
        sizes = [int(n * (1 - 1 / cell.folds) + rng.random()) for n in (cell.without, cell.with_lesion)]
        features, lesion, _ = labeled(cell, (sizes[0], sizes[1]), rng)
        for arm, strength in enumerate(cell.strengths):
            weights = ridge(features[arm], lesion, cell.turned, rng)
            row[arm] = stats.norm.cdf(2**0.5 * weights @ direction(cell, strength) / np.linalg.norm(weights))
    return areas.mean(0)
