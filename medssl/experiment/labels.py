"""The labels of a cohort as a config's target takes them, and that target."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from medssl.cohort import Cohort
from medssl.config import Target
from medssl.errors import UserError
from medssl.transfer import TargetKind, target_class, target_kind
from medssl.transfer.target import BETWEEN, NOTHING

YES, NO = {"1", "1.0", "yes", "true", "positive"}, {"0", "0.0", "no", "false", "negative"}


def labeled_units(cohort: Cohort, target: Target) -> pd.DataFrame:
    """unit, patient, group, label: as `Cohort.units`; labels that are predicted together become one, as in `a|b`.

    Raises:
        UserError: what `Cohort.units` raises; columns of a kind that takes one label, or that hold more than yes or no.
    """
    if not target.columns:
        return cohort.units(target.name, target.unit)
    if not target_class(target.kind_name).joined:
        fix = "Leave target.columns out, or take kind: multilabel."
        raise UserError(f"a target of kind {target.kind_name} is one label", "target.columns", fix)
    whole: pd.DataFrame | None = None
    for column in target.columns:
        if column.strip().lower() == NOTHING:
            fix = f"Leave it out: a unit with none of the others counts as '{NOTHING}'."
            raise UserError(f"'{column}' is no label beside the others, but the want of them", "target.columns", fix)
        frame = cohort.units(column, target.unit)
        values = frame["label"].str.lower()
        if not values.isin(YES | NO).all():
            fix = "Write 1 or 0 (or yes and no); leave a cell empty where it is not known."
            raise UserError(f"the label '{column}' holds other values than 1 and 0", "target.columns", fix)
        if not values.isin(YES).any():
            fix = "Leave it out, or label some that have it."
            raise UserError(f"no {target.unit} has the label '{column}'", "target.columns", fix)
        frame = frame.assign(label=values.isin(YES).map({True: column, False: ""}))
        if whole is not None:
            said = frame.set_index("unit")["label"]
            whole = whole[whole["unit"].isin(said.index)]
            frame = whole.assign(label=whole["label"] + BETWEEN + whole["unit"].map(said))
        whole = frame
    assert whole is not None
    if whole.empty:
        raise UserError("no unit has all of these labels", "target.columns", "Name fewer, or fill in what is missing.")
    labels = [joined(text.split(BETWEEN)) for text in whole["label"]]
    return whole.assign(label=labels).reset_index(drop=True)


def make_target(target: Target, labels: list[str]) -> TargetKind:
    """The target, from the labels of all units."""
    return target_kind(target.kind_name, labels, target.kind_settings)


def joined(names: Iterable[str]) -> str:
    """Several labels of a unit as one."""
    return BETWEEN.join(name for name in dict.fromkeys(names) if name not in ("", NOTHING)) or NOTHING


def by_strata(units: pd.DataFrame, target: TargetKind) -> pd.DataFrame:
    """The units with what they count as in place of their `label`, so that they can be evenly split and drawn: classes,
    thirds of the values, or combinations of labels. Of those, `strata` names each."""
    strata = _strata(units, target)
    found = units.assign(label=strata.map(" + ".join))
    return found.assign(strata=strata) if target.joined else found


def each_stratum(units: pd.DataFrame, target: TargetKind) -> pd.DataFrame:
    """The same with a row for each of a unit's strata, for counting."""
    return units.assign(label=_strata(units, target)).explode("label", ignore_index=True)


def _strata(units: pd.DataFrame, target: TargetKind) -> pd.Series:
    return pd.Series(target.strata(units["label"].tolist()), index=units.index, dtype=object)
