"""NIfTI: affines, dtypes, voxels that are no numbers, time points, masks."""

from __future__ import annotations

import gzip
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, dicoms.oblique() if affine is None else affine)
    for name, value in header.items():
        getattr(image.header, name)(*value)
    nib.save(image, path)
    return path


def noise(shape=(12, 10, 8), dtype="int16", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)


def only(cohort) -> dict:
    assert len(cohort) == 1
    return cohort.scans().iloc[0].to_dict()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "odd name.without.ending"])
def test_geometry_equals_nibabels(tmp_path, take, name) -> None:
    values, affine = noise(), dicoms.oblique(4)
    path = save(tmp_path / "source" / "a.nii", values, affine)
    path.rename(path.with_name(name)) if not name.endswith(".gz") else path.with_name(name).write_bytes(
        gzip.compress(path.read_bytes())
    )
    if name.endswith(".gz"):
        path.unlink()
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    truth = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.asarray(truth.dataobj).transpose(2, 1, 0))


def test_sform_goes_before_qform_and_disagreement_is_said(tmp_path, take) -> None:
    image = nib.Nifti1Image(noise(), None)
    image.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), code=1)
    image.set_qform(np.diag([4.0, 4.0, 4.0, 1.0]), code=1)
    (tmp_path / "source").mkdir()
    nib.save(image, tmp_path / "source" / "a.nii")
    cohort, _ = take(tmp_path / "source")
    assert only(cohort)["spacing"] == [3.0, 2.0, 1.0]
    assert "forms_disagree" in set(cohort.findings()["code"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (noise(dtype="float32"), "int16"),
        (noise(dtype="float64") + 0.25, "float32"),
        (noise(dtype="int16"), "int16"),
        ((noise() % 200).astype("float64"), "uint8"),
        (noise(dtype="float32") * 100_000, "int32"),
    ],
    ids=lambda v: str(getattr(v, "dtype", v)),
)
def test_smallest_type_that_holds_the_values(tmp_path, take, values, dtype) -> None:
    save(tmp_path / "source" / "a.nii", values, np.eye(4))
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    assert row["dtype"] == dtype
    np.testing.assert_array_equal(cohort.array(row["scan"]), values.transpose(2, 1, 0))


def test_voxels_that_are_no_numbers_are_masked(tmp_path, take) -> None:
    values = noise(dtype="float32")
    values[0, 1, 2], values[3, 1, 2] = np.nan, np.inf
    save(tmp_path / "source" / "a.nii.gz", values, np.eye(4))
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    padding = cohort.padding(row["scan"])
    assert padding.sum() == 2 and padding[2, 1, 0] and padding[2, 1, 3]
    assert np.isfinite(cohort.array(row["scan"])).all()
    assert "not_finite" in set(cohort.findings()["code"])


def test_time_points_are_scans_of_one_series(tmp_path, take) -> None:
    values = noise((6, 5, 4, 3))
    save(tmp_path / "source" / "a.nii.gz", values, np.eye(4))
    cohort, report = take(tmp_path / "source")
    scans = cohort.scans()
    assert (report.scans, report.accepted, report.patients) == (3, 1, 1) and scans["series"].nunique() == 1
    stored = {cohort.array(s).tobytes() for s in scans["scan"]}
    assert stored == {np.ascontiguousarray(values[..., t].transpose(2, 1, 0)).tobytes() for t in range(3)}


def test_truncated_and_absurd_files_are_refused(tmp_path, take) -> None:
    source = tmp_path / "source"
    save(source / "good.nii.gz", noise())
    raw = save(tmp_path / "cut.nii", noise()).read_bytes()
    (source / "cut.nii").write_bytes(raw[:-300])
    (source / "cut.nii.gz").write_bytes(gzip.compress(raw)[:-300])
    (source / "absurd.nii").write_bytes(raw[:42] + b"\xff\x7f" * 3 + raw[48:])
    save(source / "rgb.nii", np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4))
    cohort, report = take(source)
    assert (report.accepted, report.rejected) == (1, 4), cohort.files()


def test_masks_go_to_the_scan_of_the_same_name(tmp_path, take) -> None:
    source, affine = tmp_path / "source", dicoms.oblique()
    for i in range(3):
        save(source / "images" / f"case{i}.nii.gz", noise(seed=i), affine)
    labels = (noise(seed=9) % 3).astype("float32")
    save(source / "labels" / "case0.nii.gz", labels, affine)
    save(source / "labels" / "case1.nii.gz", labels, dicoms.oblique(2))
    save(source / "labels" / "case2.nii.gz", labels + 0.5, affine)
    save(source / "labels" / "case3.nii.gz", labels, affine)
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.rejected) == (3, 4, 3)
    assert sorted(cohort.files().query("status == 'rejected'")["code"]) == [
        "mask_grid", "mask_values", "mask_without_image",
    ]  # fmt: skip
    masks = [m for m in map(cohort.mask, cohort.scans()["scan"]) if m is not None]
    truth = nib.as_closest_canonical(nib.Nifti1Image(labels, affine))
    assert len(masks) == 1 and masks[0].dtype == np.uint8
    np.testing.assert_array_equal(masks[0], np.asarray(truth.dataobj).transpose(2, 1, 0))


def test_a_mask_named_after_the_patient_id_goes_to_the_dicom_series(tmp_path, take) -> None:
    source, volume = tmp_path / "source", dicoms.volume()
    dicoms.save(dicoms.series(volume, dicoms.AXIAL, PatientID="vp7"), source / "dicom" / "whatever")
    save(source / "masks" / "vp7.nii.gz", (volume > 1000).astype("uint8").transpose(2, 1, 0), dicoms.AXIAL)
    cohort, report = take(source)
    assert report.rejected == 0
    scan = only(cohort)["scan"]
    np.testing.assert_array_equal(cohort.mask(scan), np.asarray(cohort.array(scan)) > 1000)


def test_a_folder_called_labels_alone_holds_scans(tmp_path, take) -> None:
    save(tmp_path / "source" / "labels" / "a.nii.gz", noise())
    _, report = take(tmp_path / "source")
    assert (report.scans, report.accepted) == (1, 1)
