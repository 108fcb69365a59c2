"""What each slice of a volume contains, by the masks of its scan: labels for slices that nobody had to label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medssl.cohort.arrays import read_array
from medssl.cohort.cohort import Cohort
from medssl.cohort.rendering import AXIS
from medssl.cohort.samples import Samples
from medssl.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "none"


def slice_contents(cohort: Cohort, samples: Samples) -> pd.DataFrame:
    """The values that the mask has in each slice.

    Args:
        samples: slices of this cohort, in any plane.

    Returns:
        One row a sample, in their order: unit (a name of its own), scan, patient, group, and label: the values other
        than 0 that the mask has in this slice, as in `1+2`, or `none`; None where the scan has no mask. A structure
        counts from its first voxel on, in the whole slice, whatever the view cuts off.

    Raises:
        UserError: samples that are no slices, or a cohort without any mask.
    """
    import pandas as pd

    table, plane = samples.table, samples.view.plane
    if samples.view.spatial_dims == 3 or (table["slice"] < 0).all():
        raise UserError("what slices contain can be said of slices alone", "view", "Take 2-D samples of volumes.")
    labels = np.full(len(table), None, dtype=object)
    for scan, rows in table.groupby("scan", sort=False).indices.items():
        mask = read_array(cohort.path, str(scan), "mask")
        if mask is not None:
            planes = np.moveaxis(mask, AXIS[plane], 0)
            labels[rows] = [_words(planes[index]) for index in table["slice"].to_numpy()[rows]]
    if all(label is None for label in labels):
        raise UserError("no scan of this cohort has a mask", cohort.name, "Ingest masks beside their scans.")
    unit = table["scan"] + ":" + table["slice"].astype(str)
    kept = pd.Series(labels, index=table.index, dtype=object)  # else None would become NaN
    return table[["scan", "patient", "group"]].assign(unit=unit, label=kept)


def _words(plane: np.ndarray) -> str:
    return "+".join(str(value) for value in np.unique(plane) if value) or NOTHING
