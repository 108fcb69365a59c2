"""DICOM series: order, geometry, patients, and what is refused or ignored."""

from __future__ import annotations

import shutil

import dicoms
import nibabel as nib
import numpy as np
import pytest

from medssl.errors import UserError


def codes(cohort) -> set[str]:
    return set(cohort.findings()["code"])


@pytest.mark.parametrize("affine", [dicoms.AXIAL, dicoms.oblique(1), dicoms.oblique(5)])
def test_geometry_equals_nibabels(tmp_path, take, affine) -> None:
    volume = dicoms.volume()
    names = [f"{name}.dcm" for name in np.random.default_rng(3).permutation(len(volume))]
    dicoms.save(dicoms.series(volume, affine), tmp_path / "source" / "series", names)
    cohort, report = take(tmp_path / "source")
    assert report.scans == 1
    row = cohort.scans().iloc[0]
    truth = nib.as_closest_canonical(nib.Nifti1Image(volume.transpose(2, 1, 0), affine))
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.asarray(truth.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(row["spacing"], nib.affines.voxel_sizes(truth.affine)[::-1], atol=1e-4)


def test_a_tilted_gantry_is_a_shear(tmp_path, take) -> None:
    affine = dicoms.AXIAL.copy()
    affine[:3, 2] = [0, 1.2, 3.0]  # slices climb forward
    dicoms.save(dicoms.series(dicoms.volume(), affine), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    truth = nib.as_closest_canonical(nib.Nifti1Image(dicoms.volume().transpose(2, 1, 0), affine))
    np.testing.assert_allclose(np.array(cohort.scans().iloc[0]["affine"]), truth.affine, atol=1e-4)
    assert "gantry_tilt" in codes(cohort)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.pop(2), "missing_slices"),
        (lambda s: setattr(s[3], "ImagePositionPatient", [-10.0, -20.0, -20.0]), "uneven_slices"),
        (lambda s: setattr(s[3], "ImagePositionPatient", list(s[2].ImagePositionPatient)), "duplicate_slices"),
        (lambda s: setattr(s[3], "ImagePositionPatient", [-10.0, -16.0, -21.0]), "shifted_slices"),
        (lambda s: [setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]) for d in s], "bad_geometry"),
    ],
    ids=["missing", "uneven", "duplicate", "shifted", "bad"],
)
def test_unsafe_geometry_is_refused(tmp_path, take, change, code) -> None:
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, SeriesInstanceUID="1.2.9"), tmp_path / "source" / "good")
    broken = dicoms.series(dicoms.volume(seed=1), dicoms.AXIAL, SeriesInstanceUID="1.2.8")
    change(broken)
    dicoms.save(broken, tmp_path / "source" / "broken")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.rejected) == (1, 6, len(broken))
    assert set(cohort.files().query("status == 'rejected'")["code"]) == {code}


def test_echoes_are_scans_of_their_own(tmp_path, take) -> None:
    first = dicoms.series(dicoms.volume(), dicoms.AXIAL, EchoTime="12")
    second = dicoms.series(dicoms.volume(seed=1), dicoms.AXIAL, EchoTime="80")
    dicoms.save(first + second, tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    scans = cohort.scans()
    assert report.scans == 2 and scans["series"].nunique() == 1 and "split_series" in codes(cohort)


def test_patients_who_share_a_series_uid_are_told_apart(tmp_path, take) -> None:
    """Of one of them there are fewer slices than a volume needs, and two images carry the UID of another one."""
    ids = {"SeriesInstanceUID": "1.2.9"}
    first = dicoms.series(dicoms.volume(), dicoms.AXIAL, PatientID="P1", StudyInstanceUID="1.3.1", **ids)
    beyond = dicoms.AXIAL.copy()
    beyond[2, 3] += 60
    second = dicoms.series(dicoms.volume((2, 20, 24), 1), beyond, PatientID="P2", StudyInstanceUID="1.3.2", **ids)
    second[0].SOPInstanceUID = second[0].file_meta.MediaStorageSOPInstanceUID = first[0].SOPInstanceUID
    dicoms.save(first, tmp_path / "source" / "a")
    dicoms.save(second, tmp_path / "source" / "b")
    cohort, report = take(tmp_path / "source")
    scans = cohort.scans()
    assert (report.accepted, report.ignored) == (8, 0)
    assert sorted(map(tuple, scans["shape"])) == [(2, 20, 24), (6, 20, 24)]
    assert scans["patient"].nunique() == scans["series"].nunique() == scans["exam"].nunique() == 2
    assert "series_of_several_patients" in codes(cohort)


def test_a_series_that_lost_its_institution_is_of_the_same_patient(tmp_path, take) -> None:
    for number, (study, issuer) in enumerate([("1.3.1", "A"), ("1.3.1", ""), ("1.3.2", "B")]):
        ids = {"PatientID": "001", "StudyInstanceUID": study, "SeriesInstanceUID": f"1.2.{number}"}
        made = dicoms.series(dicoms.volume(seed=number), dicoms.AXIAL, InstitutionName=issuer, **ids)
        dicoms.save(made, tmp_path / "source" / str(number))
    cohort, _ = take(tmp_path / "source")
    assert cohort.scans()["exam"].nunique() == 2 and len(cohort.scans()) == 3
    assert cohort.scans()["patient"].nunique() == 2


def test_a_localizer_does_not_spoil_the_volume(tmp_path, take) -> None:
    good = dicoms.series(dicoms.volume(), dicoms.AXIAL)
    localizer = dicoms.series(dicoms.volume((1, 20, 24), 2), dicoms.oblique())
    dicoms.save(good + localizer, tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.ignored) == (1, 6, 1)
    assert list(cohort.scans()["shape"]) == [[6, 20, 24]]


def test_a_file_that_is_there_twice_counts_once(tmp_path, take) -> None:
    paths = dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), tmp_path / "source")
    shutil.copy(paths[2], tmp_path / "source" / "copy.dcm")
    _, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.ignored) == (1, 6, 1)


def test_single_slice_of_a_ct_keeps_units_and_geometry(tmp_path, take) -> None:
    about = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
    dicoms.save(dicoms.series(dicoms.volume((1, 20, 24)), dicoms.AXIAL, **about), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    assert (row["kind"], row["unit"], row["shape"]) == ("image", "HU", [20, 24])
    assert row["spacing"] == [0.9, 0.8] and row["affine"] is not None


def test_files_that_are_no_images_are_ignored(tmp_path, take) -> None:
    source = tmp_path / "source"
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), source)
    report = dicoms.image(np.zeros((2, 2), np.uint8), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    index = dicoms.image(np.zeros((2, 2), np.uint8), SOPClassUID="1.2.840.10008.1.3.10")
    dicoms.save([report, index], source, ["report", "DICOMDIR"])
    (source / "README.txt").write_text("hello")
    (source / ".DS_Store").write_text("x")
    _, counts = take(source)
    assert counts.ignored_as == {"structured_report": 1, "dicomdir": 1, "not_a_scan": 1, "hidden": 1}


def test_a_data_set_without_preamble_is_found(tmp_path, take) -> None:
    paths = dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), tmp_path / "source")
    for path in paths:
        raw = path.read_bytes()
        meta = 132 + 12 + int.from_bytes(raw[140:144], "little")  # prefix, group length element, the group itself
        path.write_bytes(raw[meta:])
    _, report = take(tmp_path / "source")
    assert (report.scans, report.accepted) == (1, 6)


def test_a_truncated_file_is_refused_and_the_rest_goes_on(tmp_path, take) -> None:
    source = tmp_path / "source"
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, SeriesInstanceUID="1.2.9"), source / "good")
    bad = dicoms.save([dicoms.image(dicoms.volume()[0], Modality="CR", SeriesInstanceUID="1.2.8")], source / "bad")
    bad[0].write_bytes(bad[0].read_bytes()[:-200])
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.rejected) == (1, 6, 1)
    assert list(cohort.findings()["code"]) == ["truncated"]


@pytest.mark.parametrize("patient_id", ["", "ANONYMOUS", "0000"])
def test_a_generic_patient_id_falls_back_to_the_exam(tmp_path, take, patient_id) -> None:
    for exam in ("1.1", "1.2"):
        about = {"PatientID": patient_id, "StudyInstanceUID": exam, "SeriesInstanceUID": f"{exam}.1"}
        dicoms.save(dicoms.series(dicoms.volume(seed=len(exam)), dicoms.AXIAL, **about), tmp_path / "source" / exam)
    cohort, report = take(tmp_path / "source")
    assert report.patients == 2 and "generic_patient_id" in codes(cohort)


def test_patients_of_two_sites_are_kept_apart(tmp_path, take) -> None:
    for i, site in enumerate(("North", "South", "south ")):
        about = {"InstitutionName": site, "StudyInstanceUID": f"1.{i}", "SeriesInstanceUID": f"1.{i}.1"}
        dicoms.save(dicoms.series(dicoms.volume(seed=i), dicoms.AXIAL, **about), tmp_path / "source" / str(i))
    _, report = take(tmp_path / "source")
    assert (report.scans, report.patients) == (3, 2)


def test_vendor_and_body_part_come_from_a_vocabulary(tmp_path, take) -> None:
    about = {"Manufacturer": "SIEMENS HEALTHINEERS of Dr Miller", "BodyPartExamined": "CHEST of Jane"}
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, **about), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    assert (row["vendor"], row["body_part"], row["modality"]) == ("Siemens", "chest", "MR")


def test_nothing_identifying_is_written(tmp_path, take, capsys) -> None:
    canary = "Zxqvtname"
    about = {
        "PatientName": f"{canary}^A", "PatientID": f"{canary}B", "InstitutionName": f"{canary}C",
        "Manufacturer": f"{canary}D", "StudyDescription": f"{canary}E", "BodyPartExamined": f"{canary}F".upper()[:16],
        "StudyInstanceUID": "1.2.987654321.1", "SeriesInstanceUID": "1.2.987654321.2", "StudyDate": "19870605",
    }  # fmt: skip
    source = tmp_path / "source"
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, **about), source / f"{canary}G", None)
    (source / f"{canary}H.dcm").write_bytes(b"broken")
    (source / "labels.csv").write_text(f"patient,finding\n{canary}B,yes\n")
    cohort, report = take(source, file="labels.csv", patient="patient")
    assert cohort.units("finding", "patient")["label"].tolist() == ["yes"]
    texts = [p.read_bytes() for p in cohort.path.rglob("*") if p.is_file()]
    texts += [" ".join(report.lines()).encode(), str(capsys.readouterr()).encode()]
    for text in texts:
        low = text.lower()
        assert canary.lower().encode() not in low and b"987654321" not in low and b"19870605" not in low


def test_a_source_of_nothing_but_broken_files_is_an_error(tmp_path, workspace) -> None:
    from medssl.ingest import ingest

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x01" * 50)
    with pytest.raises(UserError, match=r"none of 1 files is a scan \(1 rejected"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
