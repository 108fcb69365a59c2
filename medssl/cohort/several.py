"""The order of labeling where a unit may have several labels at once: iterative stratification (Sechidis 2011).

It cannot be said of such units how many "of a class" are labeled, only how many in all. What can be asked for is that
each label has its share of them, the rare ones too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def order_of_several(units: pd.DataFrame, largest: int, rng: np.random.Generator) -> list[str]:
    """Units in the order in which they are labeled: first one for each label, the rarest label first, then one of
    whichever label lags its share the most. Patients with the fewest labeled units come first.

    Args:
        units: columns `unit`, `patient`, `strata`: the labels of each, a tuple; one without any has a stratum of that.
        largest: how many are wanted.
    """
    names, patient = units["unit"].to_numpy(), pd.factorize(units["patient"])[0]
    labels = sorted({label for strata in units["strata"] for label in strata})
    has = np.array([[label in strata for label in labels] for strata in units["strata"]])  # (N, L)
    share, chance = has.mean(0), rng.random(len(units))
    taken = np.zeros(patient.max() + 1, dtype=np.int64)
    left, count = np.ones(len(units), bool), np.zeros(len(labels))
    chosen: list[str] = []
    while len(chosen) < min(largest, len(units)):
        lag = np.where(count == 0, len(units) - share, share * (len(chosen) + 1) - count)  # one of each comes first
        turn = np.where(has[left].any(0), lag, -np.inf).argmax()
        rows = np.flatnonzero(left & has[:, turn])
        best = rows[np.lexsort((chance[rows], taken[patient[rows]]))[0]]
        left[best] = False
        taken[patient[best]] += 1
        count += has[best]
        chosen.append(str(names[best]))
    return chosen
