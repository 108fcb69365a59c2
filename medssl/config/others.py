"""Whether what `others:` names makes sense beside the experiment's own cohort and target."""

from __future__ import annotations

from typing import Any

from medssl.config.pretraining import SUPERVISED
from medssl.errors import UserError, unknown


def check_others(config: Any) -> None:
    """Raises UserError where an `Experiment` has an entry that is no other, or an arm or a run that names none."""
    _refuse_own(config)
    for name, run in config.pretraining.items():
        where = f"pretraining.{name}.other"
        if run.other is not None and run.other not in config.others:
            raise unknown("entry under others", run.other, list(config.others), where)
        if run.task == SUPERVISED and run.other is None:
            fix = "Name an entry under others: the experiment's own labels are for its arms."
            raise UserError("it is not said whose labels are learnt", where, fix)
        if run.task != SUPERVISED and run.other is not None and config.others[run.other].cohort is None:
            fix = f"Leave other out, or take task: {SUPERVISED}."
            raise UserError(f"'{run.task}' needs no labels, and '{run.other}' has no other scans", where, fix)
    for name, arm in config.arms.items():
        if arm.jointly is not None and arm.jointly not in config.others:
            raise unknown("entry under others", arm.jointly, list(config.others), f"arms.{name}.jointly")


def _refuse_own(config: Any) -> None:
    tested = {source.name for source in config.external}
    for name, other in config.others.items():
        where = f"others.{name}"
        if other.cohort is None and other.target is None:
            raise UserError("neither another cohort nor another target", where, "Name one of them.")
        if other.cohort is None and other.target is not None and _columns(other.target) & _columns(config.target):
            fix = "Name another column, or another cohort."
            raise UserError("these labels are what the budgets count out", f"{where}.target", fix)
        if other.cohort is not None and other.cohort.name == config.cohort.name:
            fix = "Leave cohort out to take other labels of it, or name another cohort."
            raise UserError("this is the experiment's own cohort", f"{where}.cohort", fix)
        if other.cohort is not None and other.cohort.name in tested:
            fix = "Take it out of external, or out of others."
            raise UserError("an external test cohort may not teach", f"{where}.cohort", fix)


def _columns(target: Any) -> set[str]:
    return set(target.columns or [target.name])
