"""Real DICOM series: geometry and voxels against ground truth, one by one, and what the shared data hold of traps."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import UserError

ZOO = (
    "anatomical/001",
    "anatomical/001_implicit",
    "failing/slicecount/001",
    "generic/anatomical/001",
    "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hitachi/anatomical/001",
    "hitachi/anatomical/001_implicit",
    "hyperfine/anatomical/001",
    "siemens_multiframe/anatomical/001",
    "generic/rgb/001",
)


LOSSY = ("generic/compressed_jpeg/001",)


FAILING = {  # by kind: what is found, and whether the series is kept
    "failing/gantrytilting/001": ("gantry_tilt", True),
    "failing/notavolume/001": ("not_a_volume", True),
    "failing/slicecount/001": ("few_slices", True),
    "failing/sliceincrement/001": ("missing_slices", False),
    "failing/sliceincrement/002": ("missing_slices", False),
    "failing/sliceorientation/001": ("mixed_orientations", True),
}


def test_no_series_of_the_vendor_zoo_is_forgotten(shared_data: Path) -> None:
    zoo = shared_data / "dicom_series" / "vendor_zoo"
    folders = {str(path.parent.relative_to(zoo)) for path in zoo.rglob("*.dcm")}
    assert folders == set(ZOO) | set(FAILING)
    truths = {str(p.relative_to(zoo)).removesuffix("_ground_truth.nii.gz") for p in zoo.rglob("*_ground_truth.nii.gz")}
    assert {name for name in truths if not name.startswith("failing/")} <= set(ZOO)


def test_each_kind_of_failing_series_has_a_finding_of_its_own(shared_data: Path, workspace, tmp_path) -> None:
    """All of them in one source: which of the telling findings each folder's files and scans have."""
    from medssl.cohort import Cohort
    from medssl.ingest import ingest

    telling = {code for code, _ in FAILING.values()}
    for name, (code, kept) in FAILING.items():
        source, place = shared_data / "dicom_series" / "vendor_zoo" / name, tmp_path / name.replace("/", "_")
        if kept:
            report = ingest([source], place, workspace=workspace, jobs=0)
            assert report.rejected == 0, name
        else:
            with pytest.raises(UserError, match="4 rejected"):
                ingest([source], place, workspace=workspace, jobs=0)
        found = set(Cohort.open(place).findings()["code"]) & telling
        assert found - {"few_slices"} == {code} - {"few_slices"} and code in found, (name, found)


@pytest.mark.parametrize("name", ZOO)
def test_vendor_zoo_equals_its_nifti(shared_data: Path, take, name: str) -> None:
    zoo = shared_data / "dicom_series" / "vendor_zoo"
    cohort, report = take(zoo / name)
    assert report.scans == 1 and report.rejected == 0
    row = cohort.scans().iloc[0]
    truth = nib.as_closest_canonical(nib.load(zoo / f"{name}_ground_truth.nii.gz"))
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-3)
    ours, theirs = np.asarray(cohort.array(row["scan"])), np.asarray(truth.dataobj).transpose(2, 1, 0)
    if theirs.dtype.names:  # colours; their alpha is not in the DICOM files
        theirs = np.stack([theirs[c] for c in "RGB"])
    assert ours.shape == theirs.shape
    if name in LOSSY:
        assert np.abs(ours.astype(float) - theirs).max() <= 2
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["failing/sliceincrement/001", "failing/sliceincrement/002"])
def test_missing_slices_are_refused(shared_data: Path, workspace, tmp_path, name) -> None:
    from medssl.cohort import Cohort
    from medssl.errors import UserError
    from medssl.ingest import ingest

    source = shared_data / "dicom_series" / "vendor_zoo" / name
    with pytest.raises(UserError, match="4 rejected"):
        ingest([source], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert set(Cohort.open(tmp_path / "cohort").findings()["code"]) == {"missing_slices"}


@pytest.mark.parametrize(
    ("name", "code", "shapes"),
    [
        ("failing/slicecount/001", "few_slices", [[256, 256, 2]]),
        ("failing/notavolume/001", "not_a_volume", [[512, 512]] * 4),
        ("failing/sliceorientation/001", "mixed_orientations", [[2, 288, 288], [288, 288, 2]]),
        ("failing/gantrytilting/001", "gantry_tilt", [[4, 512, 512]]),
    ],
)
def test_questionable_series_are_kept_with_a_finding_of_their_own(shared_data, take, name, code, shapes) -> None:
    cohort, report = take(shared_data / "dicom_series" / "vendor_zoo" / name)
    assert report.rejected == 0 and sorted(cohort.scans()["shape"]) == shapes
    others = {"few_slices", "not_a_volume", "mixed_orientations", "gantry_tilt", "missing_slices"} - {
        code,
        "few_slices",
    }
    found = set(cohort.findings()["code"])
    assert code in found and not found & others, found


def test_gantry_tilt_is_kept_in_the_affine_and_two_volumes_are_told_apart(shared_data: Path, take, tmp_path) -> None:
    with zipfile.ZipFile(shared_data / "dicom_series" / "GE_gantry_tilt_CT" / "slices.zip") as archive:
        archive.extractall(tmp_path / "ge")
    cohort, report = take(tmp_path / "ge")
    assert (report.scans, report.accepted) == (2, 28)
    scans = cohort.scans()
    assert sorted(s[0] for s in scans["shape"]) == [14, 14]
    steps = []
    for row in scans.to_dict("records"):
        affine = np.array(row["affine"])
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        step = affine[:3, 2]
        cosine = abs(normal @ step) / np.linalg.norm(normal) / np.linalg.norm(step)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(18.5, abs=0.1)
        steps.append(cosine * np.linalg.norm(step))
        assert row["percentiles"]["0.5"] > -1500, "PixelPaddingValue must not be an intensity"
        padding = cohort.padding(row["scan"])
        assert padding is not None and 0 < padding.mean() < 0.6
    np.testing.assert_allclose(sorted(steps), [4.0, 7.0], atol=0.01)


def test_defaced_t1_is_one_volume(shared_data: Path, take, tmp_path) -> None:
    with tarfile.open(shared_data / "dicom_series" / "datalad_T1" / "dicoms.tar.gz") as archive:
        archive.extractall(tmp_path / "t1", filter="data")
    cohort, report = take(tmp_path / "t1")
    assert (report.scans, report.accepted) == (1, 192)
    assert sorted(cohort.scans()["shape"][0]) == [192, 274, 384]


def test_siim_ct(shared_data: Path, take) -> None:
    cohort, report = take(shared_data / "siim_ct_dicom")
    assert (report.scans, report.patients, report.rejected) == (41, 32, 0)
    scans = cohort.scans()
    assert set(scans["unit"]) == {"HU"} and scans["vendor"].value_counts().to_dict() == {"Siemens": 25, "GE": 16}
    padded = [s for s in scans["scan"] if cohort.padding(s) is not None]
    assert len(padded) == 5, "five of the files that name a padding value hold it"
    for scan in scans["scan"]:
        array, padding = cohort.array(scan), cohort.padding(scan)
        measured = array if padding is None else array[~padding]
        assert measured.min() >= -2100 and 500 < measured.max() < 33000
        if padding is not None:
            assert array.min() == measured.min(), "padding holds no value of its own"
