"""Virtual patients in two contrasts: one grid, alike lesions in the second, BIDS that ingest understands."""

import nibabel
import numpy as np
import pytest

from medssl.cohort import Cohort, View
from medssl.config import LabelColumns
from medssl.demo import make_virtual_contrasts, scanners
from medssl.demo.contrasts import SUFFIXES
from medssl.errors import UserError
from medssl.ingest import ingest
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_virtual_contrasts(tmp_path_factory.mktemp("virtual") / "source", patients=3, jobs=1)


def test_both_contrasts_lie_on_one_grid_and_are_samples_of_two_channels(folder, tmp_path) -> None:
    for patient in folder.glob("sub-*"):
        first, second = (nibabel.load(patient / "anat" / f"{patient.name}_{suffix}.nii.gz") for suffix in SUFFIXES)
        assert first.shape == second.shape
        np.testing.assert_allclose(first.affine, second.affine)
        a, b = (np.asarray(image.dataobj).ravel() for image in (first, second))
        assert np.corrcoef(a, b)[0, 1] < 0.9, "no copies"
    columns = LabelColumns(file="labels.csv", patient="patient", targets=["lesion"])
    ingest([folder], tmp_path / "cohort", workspace=Workspace(tmp_path / "w"), labels=columns, jobs=0)
    cohort = Cohort.open(tmp_path / "cohort")
    samples = cohort.samples(View(size=32, contrasts=[{"bids_suffix": suffix} for suffix in SUFFIXES]))
    assert samples.images.shape[1] == 2 and samples.table["exam"].nunique() == 3
    assert len(cohort.units("lesion", "exam")) == 3


def test_the_second_contrast_does_not_tell_the_kinds_apart() -> None:
    kinds = [scanners.scan_contrasts(scanners.GAMMA, kind, np.random.default_rng(3)) for kind in ("ring", "solid")]
    mask = kinds[0][0].mask > 0
    apart = [np.abs(kinds[0][c].voxels.astype(float) - kinds[1][c].voxels)[mask].mean() for c in (0, 1)]
    spread = [float(kinds[0][c].voxels[mask].std()) for c in (0, 1)]
    assert apart[0] > 0.4 * spread[0] and apart[1] < 0.1 * spread[1]


def test_the_first_contrast_is_the_scan_of_the_plain_demo() -> None:
    plain = scanners.scan(scanners.ALPHA, "ring", np.random.default_rng(5))
    first = scanners.scan_contrasts(scanners.ALPHA, "ring", np.random.default_rng(5))[0]
    assert np.array_equal(plain.voxels, first.voxels) and np.array_equal(plain.mask, first.mask)


def test_a_folder_of_something_else_is_refused(tmp_path) -> None:
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        make_virtual_contrasts(tmp_path, patients=2)
    with pytest.raises(UserError, match="too few"):
        make_virtual_contrasts(tmp_path / "new", patients=1)
