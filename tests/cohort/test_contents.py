"""What slices contain, by their scan's mask."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medssl.cohort import Cohort
from medssl.cohort.arrays import write_array
from medssl.cohort.contents import slice_contents
from medssl.config import View
from medssl.errors import UserError


@pytest.fixture
def cohort(tmp_path):
    made = Cohort.create(tmp_path / "c")
    mask = np.zeros((3, 4, 5), np.uint8)  # z, y, x
    mask[1, 0, 2], mask[2, 3, 4], mask[2, 0, 0] = 1, 2, 1
    write_array(made.path, "saa1", mask, "mask")
    return made


def slices(count, plane="axial", dims=2, scan="saa1"):
    table = pd.DataFrame({"scan": scan, "patient": "p", "group": "g", "slice": np.arange(count)})
    return SimpleNamespace(table=table, view=View(plane=plane, spatial_dims=dims))


@pytest.mark.parametrize(
    ("plane", "labels"),
    [
        ("axial", ["none", "1", "1+2"]),
        ("coronal", ["1", "none", "none", "2"]),
        ("sagittal", ["1", "none", "1", "none", "2"]),
    ],
)
def test_labels_are_the_values_in_each_slice(cohort, plane, labels):
    found = slice_contents(cohort, slices(len(labels), plane))
    assert found["label"].tolist() == labels and found["unit"].is_unique
    assert set(found["patient"]) == {"p"} and set(found["group"]) == {"g"}


def test_scans_without_a_mask_have_no_label_and_cohorts_without_any_are_refused(cohort):
    both = slices(3)
    both.table = pd.concat([both.table, slices(2, scan="sbb2").table], ignore_index=True)
    assert slice_contents(cohort, both)["label"].tolist() == ["none", "1", "1+2", None, None]
    with pytest.raises(UserError, match="no scan of this cohort has a mask"):
        slice_contents(cohort, slices(2, scan="sbb2"))
    with pytest.raises(UserError, match="slices alone"):
        slice_contents(cohort, slices(3, dims=3))
