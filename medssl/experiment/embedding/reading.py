"""What can be read from features: has the encoder learned the finding, the scanner, or the patient?

A linear probe that never sees a patient twice reads each fact, and its AUC says how well; .5 is chance whatever the
number and sizes of the classes, so that facts compare. A network that tells scanners apart can lean on them wherever
labels and scanners go together (Zech 2018, doi:10.1371/journal.pmed.1002683; Glocker 2019, arXiv:1910.04597).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medssl.experiment.embedding.facts import BODY, LABEL, PART, PATIENT
from medssl.experiment.embedding.maps import unit_length
from medssl.metrics import one_hot, score_metric
from medssl.statistics.intervals import ROLES, patient_weights

if TYPE_CHECKING:
    import pandas as pd

FOLDS, RESAMPLES = 5, 500
FEWEST = 10  # patients who must have a value for it to be read
MOST = 4000  # scans that are read; more hardly change an AUC
PENALTY = 0.8  # of the squared weights, per dimension: that of the ridge probe
TIED = 0.3  # Cramér's V from which on two facts cannot be told apart well
CHANCE = 0.5
Z = 1.959964  # of a 95 % interval


class Reading(NamedTuple):
    """How well a fact is read.

    Attributes:
        fact: its name. auc: macro AUC of a probe that never met the patient. low, high: 95 % interval over patients.
        values: that were told apart. scans, patients: how many were read.
    """

    fact: str
    auc: float
    low: float
    high: float
    values: list[str]
    scans: int
    patients: int


def read_out(
    fact: str, reduced: np.ndarray, values: Iterable[Any], patients: Iterable[Any], seed: int = 0
) -> Reading | None:
    """Ridge probe on principal axes, five folds by patient, AUC of pairs within a fold (as cross-fitted scores are).

    The interval is normal. The bootstrap of fixed predictions shows half of the variance: it resamples whom the probes
    are tested on, and not whom they learnt from (`ROLES`).

    Args:
        reduced: of `principal`, (N, K).
        values: (N,) words, None where not known. Those that fewer than 10 patients have are left out.
        patients: (N,) keys.
        seed: of folds, of the choice among very many scans, and of the resampling.

    Returns:
        None where fewer than two values are left.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    words, keys = np.array(list(values), dtype=object), np.array(list(patients))
    known = np.array([w is not None for w in words])
    had_by = {w: len(set(keys[words == w])) for w in set(words[known].tolist())}
    names = sorted(w for w, count in had_by.items() if count >= FEWEST)
    if len(names) < 2:
        return None
    rows = _some(np.flatnonzero(np.isin(words, names)), keys, seed)
    names = sorted(set(words[rows].tolist()))
    x, truth = reduced[rows].astype(np.float64), np.searchsorted(np.array(names), words[rows].astype(str))
    owner = np.unique(keys[rows], return_inverse=True)[1]
    scores, folds = np.zeros((len(rows), len(names))), np.zeros(len(rows))
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (train, test) in enumerate(splitter.split(x, truth, owner)):
        scores[test], folds[test] = _ridge(x[train], one_hot(truth[train], len(names)), x[test]), fold
    weights = np.concatenate([np.ones((1, len(rows))), patient_weights(owner, RESAMPLES, seed)])
    auc = score_metric("auc", truth, scores[None], weights, folds[None])[0]
    half = Z * float(np.sqrt(ROLES) * np.nanstd(auc[1:]))
    low, high = max(0.0, auc[0] - half), min(1.0, auc[0] + half)
    return Reading(fact, float(auc[0]), float(low), float(high), names, len(rows), int(owner.max()) + 1)


def read_all(reduced: np.ndarray, table: pd.DataFrame) -> list[Reading]:
    """Readings of every label and of every fact that the scanner decides, in the order of the columns.

    Test patients are left out: an encoder that was chosen by these figures would else be chosen on their labels.

    Args:
        table: of `facts`, a row a scan of `reduced`.
    """
    kept = (table[PART] != "test").to_numpy() if PART in table else np.ones(len(table), bool)
    asked = [name for name in table if not str(name).startswith((PART, PATIENT))]
    found = [read_out(str(n), reduced[kept], table[n][kept].tolist(), table[PATIENT][kept].tolist()) for n in asked]
    return [reading for reading in found if reading is not None]


def tied(one: Iterable[Any], other: Iterable[Any]) -> float:
    """Cramér's V of two facts, without its bias (Bergsma 2013): 0 where they are independent, 1 where they are one."""
    import pandas as pd

    table = pd.crosstab(pd.Series(list(one), dtype=object), pd.Series(list(other), dtype=object)).to_numpy(float)
    if min(table.shape, default=0) < 2:
        return 0.0
    n, (r, k) = table.sum(), table.shape
    expected = table.sum(1, keepdims=True) @ table.sum(0, keepdims=True) / n
    phi = max(0.0, ((table - expected) ** 2 / expected).sum() / n - (r - 1) * (k - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(phi / least))) if least > 0 else 0.0


def same_patient(reduced: np.ndarray, patients: Iterable[Any], most: int = 500, seed: int = 0) -> tuple[float, float]:
    """How often a scan's nearest neighbour is of the same patient, and how often it would be by chance.

    Asked of at most `most` scans whose patient has another one; NaN where there are none.
    """
    _, owner, sizes = np.unique(np.array(list(patients)), return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes[owner] > 1)
    if not len(several):
        return float("nan"), float("nan")
    if len(several) > most:
        several = np.sort(np.random.default_rng(seed).choice(several, most, replace=False))
    unit, hits = unit_length(reduced), []
    for start in range(0, len(several), 64):
        rows = several[start : start + 64]
        alike = unit[rows] @ unit.T
        alike[np.arange(len(rows)), rows] = -np.inf
        hits += (owner[alike.argmax(1)] == owner[rows]).tolist()
    return float(np.mean(hits)), float(((sizes[owner[several]] - 1) / (len(owner) - 1)).mean())


def kind_of(reading: Reading) -> str:
    """`label`, `anatomy` (an encoder that knows the body part has not learned the scanner) or `scanner`."""
    return "label" if reading.fact.startswith(LABEL) else "anatomy" if reading.fact == BODY else "scanner"


def verdict(
    label: Reading | None, scanner: Sequence[Reading], together: float = 0.0, learned: bool = True
) -> tuple[str, str]:
    """Has the encoder learned the scanner? `hurts`, `no-evidence` or `helps`, and the sentence.

    Args:
        label: how well the label is read; None where there is none.
        scanner: readings of facts that the scanner decides.
        together: Cramér's V of the label and the fact that is read best.
        learned: False for random weights and raw pixels, which have learned nothing, and tell scanners all the same.
    """
    end = f" ({CHANCE} is chance; 95\u00a0% intervals over patients.)"
    who = "This encoder has learned" if learned else "These features tell"
    if not scanner:
        of_label = f" A probe reads the {_name(label)} with an AUC of {_figure(label)}.{end}" if label else ""
        return "no-evidence", (
            "Nothing can be said of the scanner: the catalog knows no vendor, spacing, image size or other sign of it "
            f"that differs between these scans (each value needs {FEWEST} patients).{of_label}"
        )
    best = max(scanner, key=lambda reading: reading.auc)
    said = f"the {_name(best)} with an AUC of {_figure(best)}"
    of_label = "" if label is None else f"the {_name(label)} with {_figure(label)}"
    if best.low <= CHANCE:
        beside = f" It reads {of_label}." if label else ""
        return "helps", f"No sign of the scanner in these features: a probe reads {said}.{beside}{end}"
    if together >= TIED and label is not None:
        end += (
            f" {_capital(_name(best))} and {_name(label)} go together in this cohort (Cramér's V {together:.2f}), so "
            "that whoever reads one reads some of the other."
        )
    if label is None:
        return "hurts", f"{who} the scanner: a probe reads {said}.{end}"
    if best.low <= label.high and label.low <= best.high:  # to be told apart the intervals must not meet
        kind, more = "hurts" if best.auc >= label.auc else "no-evidence", "Which it reads better cannot be told."
        return kind, f"{who} the scanner: a probe reads {said}, and {of_label}. {more}{end}"
    if best.auc >= label.auc:
        return "hurts", (f"{who} the scanner better than the finding: a probe reads {said}, and {of_label}.{end}")
    return "no-evidence", (
        f"{who} the finding better than the scanner, but the scanner too: a probe reads {of_label}, and {said}.{end}"
    )


def _some(rows: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """At most about `MOST` rows, of whole patients."""
    if len(rows) <= MOST:
        return rows
    keys = np.random.default_rng(seed).permutation(np.unique(patients[rows]))
    order = {key: place for place, key in enumerate(keys.tolist())}
    rank = np.array([order[key] for key in patients[rows].tolist()])
    last = np.sort(rank)[MOST - 1]
    return rows[rank <= last]


def _ridge(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Scores (M, C) at `at` (M, K) of the ridge regression of `y` (n, C) on `x` (n, K)."""
    centre, level = x.mean(0), y.mean(0)
    x = x - centre
    gram = x.T @ x + PENALTY * x.shape[1] * np.eye(x.shape[1])
    return (at - centre) @ np.linalg.solve(gram, x.T @ (y - level)) + level


def _name(reading: Reading) -> str:
    return reading.fact.removeprefix(LABEL)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figure(reading: Reading) -> str:
    return f"{reading.auc:.2f} [{reading.low:.2f}, {reading.high:.2f}]"
