"""Test cohorts from elsewhere: scored by the same models, and used for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medssl.cohort import Cohort, Samples
from medssl.cohort.duplicates import near_between
from medssl.cohort.outliers import blank_pictures
from medssl.config import Experiment, View
from medssl.errors import UserError
from medssl.experiment.labels import each_stratum, labeled_units
from medssl.transfer.target import NOTHING
from medssl.workspace import Workspace, atomic, digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medssl.transfer import TargetKind

PART = "external:"  # begins the name of such a cohort's part


def external_units(
    cohort: Cohort, config: Experiment, home: Cohort, own: pd.DataFrame, target: TargetKind
) -> pd.DataFrame:
    """Columns unit, patient, label, part of an external cohort; units carry its name.

    Args:
        home: the experiment's own cohort.
        own: its labeled units; `target` is made of their labels.

    Raises:
        UserError: the cohort has no such target, another class, or patients or pictures of the experiment's own
            cohort, labeled or not: what has no label is pretrained on.
    """
    units = labeled_units(cohort, config.target)
    theirs, mine = (set(each_stratum(table, target)["label"]) for table in (units, own))
    if strange := sorted(theirs - mine - ({NOTHING} if target.joined else set())):
        raise UserError(
            f"external cohort '{cohort.name}' has a {target.word} '{strange[0]}' that '{config.cohort.name}' has not",
            "external",
        )
    fix = "An external test cohort has other patients. Take them out of one of the two."
    scans, known = cohort.scans(), home.scans()
    if shared := len(set(scans["patient"]) & set(known["patient"])):
        what = f"{shared} patient(s) of external cohort '{cohort.name}' are also in '{config.cohort.name}'"
        raise UserError(what, "external", fix)
    equal = known[known["content_hash"].isin(scans["content_hash"])]
    same = {*equal["content_hash"]} - blank_pictures(home, equal)
    same |= near_between(cohort.path, scans, home.path, known)
    if same:
        shown = ", ".join(sorted(known.loc[known["content_hash"].isin(same), "scan"])[:3])
        what = (
            f"{len(same)} picture(s) of external cohort '{cohort.name}' are also in '{config.cohort.name}', the same "
            f"or nearly, under other patients (there: {shown}{', ...' if len(same) > 3 else ''})"
        )
        raise UserError(what, "external", fix)
    names = units["unit"].map(lambda unit: f"{cohort.name}/{unit}")
    return units.assign(unit=names, part=PART + cohort.name)[["unit", "patient", "label", "part"]]


def joined_samples(cohort: Cohort, external: Sequence[Cohort], view: View, workspace: Workspace) -> Samples:
    """Samples of the own cohort and of external ones after them, whose scans, exams and patients carry their name."""
    own = cohort.samples(view)
    if not external:
        return own
    parts = [own, *(other.samples(view) for other in external)]
    key = digest([part.key for part in parts])
    path = workspace.features(f"joined-{key}")
    if not path.exists():
        shape = (sum(len(part) for part in parts), *own.images.shape[1:])
        with atomic(path) as fresh:
            whole = np.lib.format.open_memmap(fresh, mode="w+", dtype=own.images.dtype, shape=shape)
            at = 0
            for part in parts:
                whole[at : at + len(part)] = part.images
                at += len(part)
            whole.flush()
    tables = [own.table]
    for other, part in zip(external, parts[1:], strict=True):
        named = {column: other.name + "/" + part.table[column].astype(str) for column in ("scan", "exam", "patient")}
        tables.append(part.table.assign(**named))
    return Samples(np.load(path, mmap_mode="r"), pd.concat(tables, ignore_index=True), view, key)
