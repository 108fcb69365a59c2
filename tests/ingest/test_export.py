"""Export: what is written, that it comes back equal, and that a run goes on where it stopped."""

from __future__ import annotations

import csv
import shutil
import zipfile
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from medssl.cohort import Cohort
from medssl.errors import MedsslError, UserError
from medssl.ingest import export, export_nifti
from medssl.ingest.reorient import to_ras


def noise(shape, dtype="int16", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def save(path: Path, values: np.ndarray, affine=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, dicoms.oblique() if affine is None else affine), path)


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Every kind of scan that a cohort may hold."""
    source = tmp_path / "source"
    save(source / "images" / "a.nii.gz", noise((6, 5, 4)) - 100)
    save(source / "labels" / "a.nii.gz", noise((6, 5, 4), seed=1) % 3)
    holes = noise((6, 5, 4), "float32", 2) + 0.25
    holes[1, 2, 3] = np.nan
    save(source / "images" / "holes.nii", holes)
    sheared = np.array([[0.9, 0.1, 0, -30], [0, 1.1, 0.4, 12], [0.05, 0, 2.5, 7], [0, 0, 0, 1]])
    save(source / "images" / "sheared.nii", noise((6, 5, 4, 2), "int32", 3) * 100_000, sheared)
    save(source / "images" / "rgb.nii", noise((6, 5, 4, 3), "uint8", 4).view([(c, "u1") for c in "RGB"])[..., 0])
    Image.fromarray(noise((9, 7), "uint8", 5)).save(source / "images" / "gray.png")
    Image.fromarray(noise((9, 7), "uint8", 6) % 2).save(source / "labels" / "gray.png")
    Image.fromarray(noise((9, 7), "uint16", 7)).save(source / "images" / "deep.png")
    Image.fromarray(noise((9, 7, 3), "uint8", 8)).save(source / "images" / "colour.png")
    for i, dtype in enumerate(("int16", "float32", "uint32", "int32")):
        wide = noise((9, 7), dtype, 9 + i) * (1 if dtype == "int16" else 20_000_000 if dtype == "uint32" else 70_001)
        tifffile.imwrite(source / "images" / f"{dtype}.tif", wide - (dtype == "int16") * 50 + (0.5 if i == 1 else 0))
    tifffile.imwrite(source / "images" / "deep_colour.tif", noise((9, 7, 3), "uint16", 20), photometric="rgb")
    dicoms.save(dicoms.series(noise((1, 9, 7), seed=21), dicoms.AXIAL, Modality="CT"), source / "single")
    arrays = {f"{s}_images": noise((2, 5, 6, 7), "uint8", i + 30) for i, s in enumerate(("train", "val", "test"))}
    arrays |= {f"{s}_labels": np.array([[0], [1]]) for s in ("train", "val", "test")}
    np.savez(source / "cubes.npz", **arrays)
    return source


def contents(cohort: Cohort) -> dict[bytes, tuple]:
    """By voxels: affine, mask and padding of each scan; a located image counts as the one slice that it is."""
    out = {}
    for row in cohort.scans().to_dict("records"):
        parts, affine = (
            [cohort.array(row["scan"]), cohort.mask(row["scan"]), cohort.padding(row["scan"])],
            row["affine"],
        )
        if row["kind"] == "image" and affine is not None:
            turned = [None if part is None else to_ras(part[None], np.array(affine)) for part in parts]
            parts, affine = [None if pair is None else pair[0] for pair in turned], turned[0][1]
        key = f"{parts[0].dtype.name} {parts[0].shape}".encode() + parts[0].tobytes()
        out[key] = (affine, *parts[1:])
    assert len(out) == len(cohort)
    return out


def assert_same(one: Cohort, two: Cohort) -> None:
    first, second = contents(one), contents(two)
    assert first.keys() == second.keys()
    for key, (affine, mask, padding) in first.items():
        affine_there, mask_there, padding_there = second[key]
        if affine is not None:
            np.testing.assert_allclose(affine_there, affine, atol=1e-4)
        for here, there in ((mask, mask_there), (padding, padding_there)):
            assert (here is None) == (there is None)
            if here is not None and there is not None:
                np.testing.assert_array_equal(here, there)


def test_every_kind_of_scan_comes_back_equal(mixed, tmp_path, take) -> None:
    cohort, report = take(mixed)
    assert report.rejected == 0
    done = export_nifti(cohort, tmp_path / "out", jobs=0)
    assert done["scans"] == done["written"] == len(cohort) == 20 and done["kept"] == done["not_written"] == 0
    again, report = take(tmp_path / "out", "again")
    assert (report.rejected, report.scans) == (0, 20)
    assert_same(cohort, again)
    assert "forms_disagree" not in set(again.findings()["code"])


def test_the_index_names_files_and_gives_patients_and_labels_back(mixed, tmp_path, take) -> None:
    cohort, _ = take(mixed)
    export_nifti(cohort, tmp_path / "out", jobs=0)
    with (tmp_path / "out" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and sum(bool(r["mask"]) for r in rows) == 2 and sum(bool(r["padding"]) for r in rows) == 1
    assert all((tmp_path / "out" / r[c]).is_file() for r in rows for c in ("file", "mask", "padding") if r[c])
    assert sorted(r["time_point"] for r in rows if r["time_point"]) == ["0", "1"]
    assert {r["spacing_mm"] for r in rows if r["kind"] == "image" and r["spacing_mm"]} == {"0.8 x 0.9"}
    again, _ = take(tmp_path / "out", "again", file="index.csv", patient="patient", targets=["label"])
    assert again.scans()["patient"].nunique() == cohort.scans()["patient"].nunique()
    assert sorted(again.labels("label")["value"]) == sorted(cohort.labels("label")["value"])


def test_a_nifti_of_the_export_is_what_nibabel_reads(tmp_path, take) -> None:
    values, affine = noise((6, 5, 4)), dicoms.oblique()
    save(tmp_path / "source" / "a.nii", values, affine)
    cohort, _ = take(tmp_path / "source")
    export_nifti(cohort, tmp_path / "out", jobs=0)
    image, truth = nib.load(next((tmp_path / "out").glob("*.nii.gz"))), nib.Nifti1Image(values, affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(nib.as_closest_canonical(truth).dataobj))
    np.testing.assert_allclose(image.affine, nib.as_closest_canonical(truth).affine, atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm" and image.get_qform(coded=True)[1] == 1


def test_a_killed_export_goes_on_and_a_changed_cohort_is_followed(tmp_path, take, monkeypatch) -> None:
    for i in range(30):
        save(tmp_path / "source" / f"{i}.nii.gz", noise((6, 5, 4), seed=i))
    cohort, _ = take(tmp_path / "source")
    write, count = export._write_scan, [0]

    def killed(*arguments):
        count[0] += 1
        if count[0] > 12:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(export, "_write_scan", killed)
    with pytest.raises(KeyboardInterrupt):
        export_nifti(cohort, tmp_path / "out", jobs=0)
    monkeypatch.setattr(export, "_write_scan", write)
    assert not (tmp_path / "out" / "index.csv").exists()
    done = export_nifti(cohort, tmp_path / "out", jobs=0)
    assert (done["written"], done["kept"]) == (18, 12)
    assert export_nifti(cohort, tmp_path / "out", jobs=0)["written"] == 0
    first = cohort.scans()["scan"][0]
    (tmp_path / "out" / f"{first}.nii.gz").unlink()
    assert export_nifti(cohort, tmp_path / "out", jobs=0)["written"] == 1
    (tmp_path / "source" / "0.nii.gz").unlink()
    save(tmp_path / "source" / "1.nii.gz", noise((6, 5, 4), seed=77))
    cohort, _ = take(tmp_path / "source")
    done = export_nifti(cohort, tmp_path / "out", jobs=0)
    assert done["written"] == 1 and len(list((tmp_path / "out").glob("*.nii.gz"))) == len(cohort) == done["scans"]
    assert_same(cohort, take(tmp_path / "out", "again")[0])


def test_what_is_not_ours_is_left_alone(tmp_path, take) -> None:
    save(tmp_path / "source" / "a.nii", noise((6, 5, 4)))
    cohort, _ = take(tmp_path / "source")
    with pytest.raises(UserError, match="holds something else"):
        export_nifti(cohort, tmp_path / "source")
    with pytest.raises(UserError, match="inside the cohort"):
        export_nifti(cohort, cohort.path / "out")
    export_nifti(cohort, tmp_path / "out")
    other, _ = take(tmp_path / "source", "other")
    with pytest.raises(UserError, match="another cohort"):
        export_nifti(other, tmp_path / "out")


def test_a_full_disk_is_one_message(tmp_path, take, monkeypatch) -> None:
    save(tmp_path / "source" / "a.nii", noise((6, 5, 4)))
    cohort, _ = take(tmp_path / "source")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_write_nifti", full)
    with pytest.raises(MedsslError, match="No space left"):
        export_nifti(cohort, tmp_path / "out", jobs=0)
    assert [p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")] == []


def test_real_scans_come_back_equal(shared_data: Path, tmp_path, take) -> None:
    zoo, source = shared_data / "dicom_series" / "vendor_zoo", tmp_path / "source"
    for part in ("images", "labels"):
        (source / "hippocampus" / part).mkdir(parents=True)
        for file in sorted((shared_data / "hippocampus" / part).glob("*.nii.gz"))[:10]:
            shutil.copy(file, source / "hippocampus" / part)
    for name in ("generic/rgb/001", "generic/anatomical/002_non_isotropic", "siemens_multiframe/anatomical/001"):
        shutil.copytree(zoo / name, source / name)
    for file in sorted((shared_data / "siim_ct_dicom").glob("*.dcm"))[:12]:
        shutil.copy(file, source)
    with zipfile.ZipFile(shared_data / "dicom_series" / "GE_gantry_tilt_CT" / "slices.zip") as archive:
        archive.extractall(source / "ge")
    cohort, _ = take(source)
    done = export_nifti(cohort, tmp_path / "out", jobs=0)
    assert done["written"] == len(cohort) and done["not_written"] == 0
    again, report = take(tmp_path / "out", "again")
    assert report.rejected == 0
    scans = cohort.scans()
    assert sum(cohort.padding(s) is not None for s in scans["scan"]) >= 2
    assert {"volume", "colour_volume", "image"} <= set(scans["kind"])
    assert_same(cohort, again)
