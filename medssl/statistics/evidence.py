"""Evidence rows (one per job, unit and class) as arrays that the statistics can work on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medssl.config import Budget
from medssl.errors import MedsslError
from medssl.metrics import FAMILIES


@dataclass(frozen=True)
class Evidence:
    """Predictions on one fixed test split, or cross-fitted ones of all labeled units.

    Attributes:
        classes: names, in the order of the last axis of `scores`.
        units: (N,) unit keys; `patients`: (N,) number of the patient (cluster) of each; `truth`: (N,) class numbers, or
            what else the metrics of the `family` take.
        scores: (arm, budget) -> (K, D, N, C): K runs of pretraining, D draws in ascending order.
        draws: (arm, budget) -> draw numbers, (D,); cross-fitted, a draw here is a whole repeat.
        folds: (repeats, N) fold in which each unit was tested, the same for all arms; None: not cross-fitted.
        family: of the metrics (`medssl.metrics.FAMILIES`).
        temperatures: (arm, budget) -> (K, D) of each predictor, where they were fitted on validation labels.
    """

    classes: list[str]
    units: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    scores: dict[tuple[str, Budget], np.ndarray]
    draws: dict[tuple[str, Budget], np.ndarray]
    folds: np.ndarray | None = None
    family: str = "classification"
    temperatures: dict[tuple[str, Budget], np.ndarray] = field(default_factory=dict)

    @property
    def patients_a_class(self) -> int:
        """Patients with a unit of the class that has the fewest; of another family's groups likewise."""
        return min(len(np.unique(self.patients[group])) for group in self._groups())

    @property
    def units_a_class(self) -> int:
        return min(int(group.sum()) for group in self._groups())

    def _groups(self) -> list[np.ndarray]:
        return FAMILIES[self.family].groups(self.truth, len(self.classes))

    def of_arms(self, arms: list[str]) -> Evidence:
        """The predictions of some of the arms."""
        kept = {cell: values for cell, values in self.scores.items() if cell[0] in arms}
        draws = {cell: self.draws[cell] for cell in kept}
        return replace(self, scores=kept, draws=draws)

    def part(self, keep: np.ndarray) -> Evidence:
        """The same predictions for some of the units, (N,) bool."""
        patients = np.unique(self.patients[keep], return_inverse=True)[1]
        scores = {cell: values[:, :, keep] for cell, values in self.scores.items()}
        folds = None if self.folds is None else self.folds[:, keep]
        units, truth = self.units[keep], self.truth[keep]
        return replace(self, units=units, patients=patients, truth=truth, scores=scores, folds=folds)


def read_evidence(rows: pd.DataFrame, folds: int | None = None, family: str = "classification") -> Evidence:
    """Arrange the rows of all jobs of one target on one split. Units keep the order that they have in the first job,
    which is the cohort's own: the resampling then does not depend on the keys.

    Args:
        rows: columns `job, arm, budget, draw, unit, patient, cls, truth, score`, and `run` (of pretraining) where there
            are several, `temperature` where it was fitted.
        folds: where it is cross-fitted, how many folds a repeat has; their jobs become one draw (`join_folds`).
        family: of the metrics.

    Raises:
        MedsslError: jobs that were scored on different test units, or disagree on the truth, or arms with other folds.
    """
    partition = None
    if folds:
        rows, partition = join_folds(rows, folds)
    one = rows[rows["job"] == rows["job"].iloc[0]]
    classes = class_order(one["cls"].tolist(), family)
    units = one["unit"].unique()
    rank = pd.Series(range(len(units)), index=units)
    place = pd.Series(range(len(classes)), index=classes)
    rows = rows.assign(rank=rows["unit"].map(rank), place=rows["cls"].map(place))
    rows = rows.sort_values(["job", "rank", "place"], kind="stable")
    first = rows[rows["job"] == one["job"].iloc[0]]
    shape = (len(units), len(classes))
    jobs, arrays, warm = [], [], []
    for _, job in rows.groupby("job", sort=False):
        arm = job["arm"].iloc[0]
        same = len(job) == len(first) and (job["unit"].to_numpy() == first["unit"].to_numpy()).all()
        if not same or not np.array_equal(job["truth"].to_numpy(), first["truth"].to_numpy()):
            raise MedsslError(f"arm '{arm}' was not scored on the same test units as the others", "results")
        jobs.append((str(arm), job["budget"].iloc[0], job["draw"].iloc[0], job["run"].iloc[0] if "run" in job else 0))
        arrays.append(job["score"].to_numpy().reshape(shape))
        warm.append(job["temperature"].iloc[0] if "temperature" in job else np.nan)
    truth = FAMILIES[family].truth(first["truth"].to_numpy().reshape(shape))
    patients = pd.factorize(first["patient"].to_numpy()[:: len(classes)])[0]
    evidence = arrange(classes, units, patients, truth, jobs, np.stack(arrays), family, np.array(warm))
    if partition is None:
        return evidence
    return replace(evidence, folds=partition.reindex(columns=units).to_numpy())


def join_folds(rows: pd.DataFrame, folds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The jobs of a repeat as one job, in which every unit was tested once.

    Args:
        rows: as for `read_evidence`, with draw = repeat x folds + fold.
        folds: of a repeat; repeats of which an arm has not met all folds yet are left out.

    Returns:
        the rows with draw = repeat; fold of each unit in each repeat (NaN in one that is left out), (repeats, N).

    Raises:
        MedsslError: arms whose folds hold different units, or no repeat that is finished.
    """
    rows = rows.assign(run=rows.get("run", 0), repeat=rows["draw"] // folds, fold=rows["draw"] % folds)
    where = ["arm", "budget", "run", "repeat"]
    rows = rows[rows.groupby(where)["fold"].transform("nunique") == folds]
    if rows.empty:
        raise MedsslError("no repeat has met all of its folds yet", "results", "Wait, or run the config again.")
    if (rows.groupby(["repeat", "unit"])["fold"].nunique() > 1).any():
        raise MedsslError("arms were tested in different folds", "results", "Run the config again.")
    rows = rows.sort_values(["repeat", "fold"], kind="stable")
    partition = rows.drop_duplicates(["repeat", "unit"]).pivot(index="repeat", columns="unit", values="fold")
    partition = partition.reindex(range(int(rows["repeat"].max()) + 1))
    return rows.assign(draw=rows["repeat"], job=rows.groupby(where, sort=False).ngroup()), partition


def arrange(
    classes: list[str],
    units: np.ndarray,
    patients: np.ndarray,
    truth: np.ndarray,
    jobs: list[tuple[str, object, int, int]],
    scores: np.ndarray,
    family: str = "classification",
    temperature: np.ndarray | None = None,
) -> Evidence:
    """Jobs by cell. A draw counts where every run of pretraining that has begun at this budget has it.

    Args:
        jobs: (arm, budget, draw, run) of each row of `scores`, (J, N, C), and of `temperature`, (J,).
    """
    cells: dict[tuple[str, Budget], dict[tuple[int, int], int]] = {}
    for number, (arm, budget, draw, run) in enumerate(jobs):
        cells.setdefault((arm, budget_of(budget)), {})[int(run), int(draw)] = number
    found, draws, warm = {}, {}, {}
    for cell, place in cells.items():
        runs = sorted({run for run, _ in place})
        common = [d for d in sorted({d for _, d in place}) if all((run, d) in place for run in runs)]
        if common:
            rows = np.array([[place[run, d] for d in common] for run in runs])
            found[cell], draws[cell] = scores[rows], np.array(common)
            if temperature is not None:
                warm[cell] = temperature[rows]
    return Evidence(classes, units, patients, truth, found, draws, family=family, temperatures=warm)


def class_order(names: list[str], family: str) -> list[str]:
    """The classes that evidence names, by name or, where their order has a meaning, in the order of the evidence."""
    return list(dict.fromkeys(names)) if FAMILIES[family].ordered else sorted(set(names))


def budget_of(text: object) -> Budget:
    """The budget as tables show it: an integer or `all`."""
    return "all" if str(text) == "all" else int(str(text))
