"""Virtual patients: valid files, one geometry for scan and mask, the same bytes every time, no hint of the label."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from medssl.demo import make_virtual_patients
from medssl.demo import patients as module
from medssl.demo.lesions import KINDS
from medssl.demo.patients import plan
from medssl.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_virtual_patients(tmp_path_factory.mktemp("virtual") / "source", patients=8, jobs=1)


def test_every_patient_has_a_scan_a_mask_and_a_label(folder):
    labels = list(csv.DictReader((folder / "labels.csv").open()))
    names = {row["patient"] for row in labels}
    dicom, nifti = ({p.name.removesuffix(".nii.gz") for p in (folder / f).iterdir()} for f in ("dicom", "nifti"))
    assert len(names) == 8 and dicom | nifti == names and not dicom & nifti and len(dicom) == 4
    assert {p.name.removesuffix(".nii.gz") for p in (folder / "masks").iterdir()} == names
    assert {row["lesion"] for row in labels} == set(KINDS)
    assert sorted(p.name for p in folder.iterdir()) == ["README.txt", "dicom", "labels.csv", "masks", "nifti"]


def test_it_is_said_that_the_patients_are_virtual(folder):
    assert (folder / "README.txt").read_text().startswith("VIRTUAL PATIENTS")
    image = pydicom.dcmread(next((folder / "dicom").rglob("*.dcm")))
    assert "VIRTUAL PATIENT" in image.ImageComments and "Virtual" in image.Manufacturer
    assert b"VIRTUAL" in nibabel.load(next((folder / "nifti").iterdir())).header["descrip"].tobytes()


def test_series_are_valid_and_lie_on_the_grid_of_their_mask(folder):
    syntaxes, uids = set(), set()
    for series in (folder / "dicom").iterdir():
        voxels, affine, images = read_series(series)
        mask = nibabel.load(folder / "masks" / f"{series.name}.nii.gz")
        assert mask.shape == voxels.shape
        np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
        assert voxels.dtype == np.uint16 and voxels.max() > 100 and voxels.max() < 4096
        assert {i.PatientID for i in images} == {series.name}
        assert len({i.SeriesInstanceUID for i in images}) == len({i.FrameOfReferenceUID for i in images}) == 1
        assert [i.InstanceNumber for i in sorted(images, key=lambda i: i.filename)] != sorted(
            i.InstanceNumber for i in images
        )
        syntaxes |= {i.file_meta.TransferSyntaxUID.name for i in images}
        fresh = [i.SOPInstanceUID for i in images] + [images[0].SeriesInstanceUID, images[0].StudyInstanceUID]
        assert all(u.is_valid and u.startswith("2.25.") for u in fresh) and not uids & set(fresh)
        assert len(set(fresh)) == len(fresh)
        uids |= set(fresh)
    assert syntaxes == {"Explicit VR Little Endian", "JPEG-LS Lossless Image Compression"}


def test_volumes_have_an_sform_and_lie_on_the_grid_of_their_mask(folder):
    for path in (folder / "nifti").iterdir():
        image, mask = nibabel.load(path), nibabel.load(folder / "masks" / path.name)
        assert int(image.header["sform_code"]) == 1 and image.shape == mask.shape
        np.testing.assert_allclose(image.affine, mask.affine, atol=1e-5)
        np.testing.assert_allclose(image.header.get_zooms(), (2.04, 2.04, 6.0), atol=1e-4)


def test_lesions_are_inside_the_head_and_in_most_slices(folder):
    for path in (folder / "masks").iterdir():
        mask = np.asanyarray(nibabel.load(path).dataobj)
        assert set(np.unique(mask)) == {0, 1}
        assert (mask.any((0, 1))).mean() > 0.6
    for path in (folder / "nifti").iterdir():
        voxels, mask = (np.asanyarray(nibabel.load(folder / f / path.name).dataobj) for f in ("nifti", "masks"))
        air = np.percentile(voxels[:8, :8], 99)
        assert (voxels[mask > 0] > air).mean() > 0.95


def test_the_kind_turns_lesions_inside_out_and_changes_nothing_else():
    from medssl.demo import scanners

    ring, solid = (scanners.scan(scanners.GAMMA, kind, np.random.default_rng(3)) for kind in KINDS)
    assert np.array_equal(ring.mask, solid.mask) and np.array_equal(ring.affine, solid.affine)
    lesion = ring.mask > 0
    white = np.percentile(ring.voxels[ring.voxels > 50], 60)
    difference = ring.voxels.astype(float) - solid.voxels
    spread = [float(s.voxels[lesion].std()) for s in (ring, solid)]
    assert abs(difference.sum()) < 0.03 * white * lesion.sum() and 0.8 < spread[0] / spread[1] < 1.25
    assert np.abs(difference)[lesion].mean() > 0.2 * white
    far = np.ones_like(lesion)
    for shift in range(-4, 5):
        far &= ~np.roll(lesion, shift, 1) & ~np.roll(lesion, shift, 2)
    far[1:] &= ~lesion[:-1]
    far[:-1] &= ~lesion[1:]
    assert (ring.voxels == solid.voxels)[far].mean() > 0.99


def test_the_label_says_nothing_of_the_scanner():
    everyone = plan(240, seed=0)
    pairs = Counter((p.scanner.manufacturer, p.kind) for p in everyone)
    assert sorted(pairs.values()) == [30, 30, 30, 30, 60, 60]
    assert Counter(p.scanner.form for p in everyone) == {"dicom": 120, "nifti": 120}
    assert [p.kind for p in everyone] != [p.kind for p in plan(240, seed=1)]
    assert plan(48, seed=0) == everyone[:48]


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(folder, tmp_path):
    assert hashes(make_virtual_patients(tmp_path / "again", patients=8, jobs=2)) == hashes(folder)
    other = hashes(make_virtual_patients(tmp_path / "other", patients=2, seed=1, jobs=1))
    assert not set(other.values()) & set(hashes(folder).values())


def test_a_run_that_was_cut_off_goes_on(folder, tmp_path, monkeypatch):
    made: list[str] = []
    real = module.make_patient

    def cut_off(patient, place, seed):
        if len(made) == 3:
            (place / ".partial" / patient.name).mkdir(parents=True)
            raise KeyboardInterrupt
        made.append(patient.name)
        real(patient, place, seed)

    monkeypatch.setattr(module, "make_patient", cut_off)
    with pytest.raises(KeyboardInterrupt):
        make_virtual_patients(tmp_path / "cut", patients=8, jobs=1)
    again: list[str] = []
    monkeypatch.setattr(module, "make_patient", lambda p, f, s: (again.append(p.name), real(p, f, s)))
    make_virtual_patients(tmp_path / "cut", patients=8, jobs=1)
    assert sorted(made + again) == [p.name for p in plan(8, 0)] and len(made) == 3
    assert hashes(tmp_path / "cut") == hashes(folder)


def test_a_folder_with_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        make_virtual_patients(tmp_path, patients=8)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="other virtual patients"):
        make_virtual_patients(folder, patients=8, seed=1)
    with pytest.raises(UserError, match="too few"):
        make_virtual_patients(tmp_path / "few", patients=1)


def hashes(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray, list]:
    """Voxels (x, y, z) and their affine to RAS+, worked out from the headers alone (PS3.3 C.7.6.2.1.1)."""
    images = [pydicom.dcmread(p) for p in folder.iterdir()]
    first = images[0]
    row, column = (np.array(first.ImageOrientationPatient[i : i + 3], float) for i in (0, 3))
    normal = np.cross(row, column)
    order = sorted(images, key=lambda i: float(np.dot(normal, np.array(i.ImagePositionPatient, float))))
    corners = np.array([i.ImagePositionPatient for i in order], float)
    steps = np.diff(corners, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), float(first.SpacingBetweenSlices), atol=1e-4)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.PixelSpacing[1], column * first.PixelSpacing[0]
    affine[:3, 2], affine[:3, 3] = steps.mean(0), corners[0]
    voxels = np.stack([i.pixel_array for i in order]).transpose(2, 1, 0)
    return voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, images
