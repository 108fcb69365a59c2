"""Evidence rows (one per job, unit and class) as arrays that the statistics can work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medssl.config import Budget
from medssl.errors import MedsslError


@dataclass(frozen=True)
class Evidence:
    """Predictions on one fixed test split.

    Attributes:
        classes: names, in the order of the last axis of `scores`.
        units: (N,) unit keys; `patients`: (N,) number of the patient (cluster) of each; `truth`: (N,) class numbers.
        scores: (arm, budget) -> (D, N, C), draws in ascending order.
        draws: (arm, budget) -> draw numbers, (D,).
    """

    classes: list[str]
    units: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    scores: dict[tuple[str, Budget], np.ndarray]
    draws: dict[tuple[str, Budget], np.ndarray]


def read_evidence(rows: pd.DataFrame) -> Evidence:
    """Arrange the rows of all jobs of one target on one split. Units keep the order that they have in the first job,
    which is the cohort's own: the resampling then does not depend on the keys.

    Raises:
        MedsslError: jobs that were scored on different test units, or disagree on the truth.
    """
    classes = sorted(rows["cls"].unique())
    units = rows.loc[rows["job"] == rows["job"].iloc[0], "unit"].unique()
    rank = pd.Series(range(len(units)), index=units)
    rows = rows.assign(rank=rows["unit"].map(rank)).sort_values(["arm", "budget", "draw", "rank", "cls"], kind="stable")
    first = rows[rows["job"] == rows["job"].iloc[0]]
    shape = (len(units), len(classes))
    truth = _square(first["truth"], shape).argmax(1)
    patients = pd.factorize(first["patient"].to_numpy()[:: len(classes)])[0]
    scores: dict[tuple[str, Budget], np.ndarray] = {}
    draws: dict[tuple[str, Budget], np.ndarray] = {}
    expected = (first["unit"].to_numpy(), first["truth"].to_numpy())
    for (arm, budget), cell in rows.groupby(["arm", "budget"], sort=False, observed=True):
        numbers = cell["draw"].unique()
        stacked = []
        for _, job in cell.groupby("draw", sort=True):
            same = len(job) == len(first) and (job["unit"].to_numpy() == expected[0]).all()
            if not same or not np.array_equal(job["truth"].to_numpy(), expected[1]):
                raise MedsslError(f"arm '{arm}' was not scored on the same test units as the others", "results")
            stacked.append(_square(job["score"], shape))
        key = (str(arm), budget_of(budget))
        scores[key], draws[key] = np.stack(stacked), np.sort(numbers)
    return Evidence(classes, units, patients, truth, scores, draws)


def budget_of(text: object) -> Budget:
    """The budget as tables show it: an integer or `all`."""
    return "all" if str(text) == "all" else int(str(text))


def _square(column: pd.Series, shape: tuple[int, int]) -> np.ndarray:
    return column.to_numpy().reshape(shape)
