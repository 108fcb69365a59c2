"""Label tables: which rows fit which scans, patients and groups, and clear words where nothing fits."""

from __future__ import annotations

from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medssl.config import LabelColumns
from medssl.errors import UserError
from medssl.ingest import add_labels


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """images/a0.png to a3.png, each another noise."""
    folder = tmp_path / "source" / "images"
    folder.mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a{i}.png")
    return tmp_path / "source"


def table(folder: Path, *lines: str, name: str = "labels.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return name


def value_of(cohort, target: str) -> dict[int, str]:
    """Number of the picture -> label."""
    number = {np.random.default_rng(i).integers(0, 255, (8, 8)).astype(np.uint8).tobytes(): i for i in range(4)}
    rows = cohort.labels(target).itertuples()
    return {number[cohort.array(row.scan).tobytes()]: row.value for row in rows}


@pytest.mark.parametrize("form", ["a{}.png", "a{}", "images/a{}.png", "images/a{}", "./images/a{}.png", "x/y/a{}.png"])
@pytest.mark.parametrize("scan", ["file", None])
def test_rows_name_files_in_many_ways(pictures, take, form, scan) -> None:
    rows = [f"{form.format(i)},{'xy'[i % 2]}" for i in range(4)]
    cohort, report = take(pictures, file=table(pictures, "file,kind", *rows), scan=scan)
    assert value_of(cohort, "kind") == {0: "x", 1: "y", 2: "x", 3: "y"}
    assert cohort.targets() == ["kind"], "the column of file names is no target"
    assert report.ignored_as == {"label_table": 1}


def test_an_id_of_several_institutions_is_said(tmp_path, take) -> None:
    for issuer in "AB":
        ids = {"PatientID": "001", "InstitutionName": issuer, "StudyInstanceUID": f"1.2.{ord(issuer)}"}
        scan = dicoms.series(dicoms.volume(), dicoms.AXIAL, SeriesInstanceUID=f"1.3.{ord(issuer)}", **ids)
        dicoms.save(scan, tmp_path / "source" / issuer)
    file = table(tmp_path / "source", "who,kind", "001,x")
    cohort, report = take(tmp_path / "source", file=file, patient="who", targets=["kind"])
    assert len(cohort.labels("kind")) == 2 and "1 rows fit scans of more than one patient" in report.labels["note"]


def test_a_name_of_several_folders_is_said(tmp_path, take) -> None:
    for i, place in enumerate(("p1/T1", "p2/T1", "p3/T2")):
        (tmp_path / "source" / place).mkdir(parents=True)
        image = nib.Nifti1Image(dicoms.volume(seed=i).transpose(2, 1, 0), np.eye(4))
        nib.save(image, tmp_path / "source" / place / f"v{i}.nii")
    file = table(tmp_path / "source", "folder,kind", "T1,x", "T2,y")
    cohort, report = take(tmp_path / "source", file=file, scan="folder", targets=["kind"])
    assert len(cohort.labels("kind")) == 3 and "1 rows fit scans of more than one patient" in report.labels["note"]
    file = table(tmp_path / "source", "folder,who,kind", "T1,p,x", "T2,q,y", name="who.csv")
    _, report = take(tmp_path / "source", "known", file=file, scan="folder", patient="who", targets=["kind"])
    assert "note" not in report.labels, "the table says that they are one patient's"


def test_tsv_with_byte_order_mark_and_empty_values(pictures, take) -> None:
    (pictures / "labels.tsv").write_text("\ufefffile\tkind\na0\tx\na1\t\na2\tNA\nnowhere\ty\n", encoding="utf-8")
    cohort, report = take(pictures, file="labels.tsv", scan="file")
    assert value_of(cohort, "kind") == {0: "x"}
    assert (report.labels["rows"], report.labels["table_rows"]) == (3, 4)


def test_patients_and_groups(pictures, take) -> None:
    rows = ["a0,p1,g1,x", "a1,p1,g1,x", "a2,p2,g1,y", "a3,p3,g2,y"]
    file = table(pictures, "file,who,family,kind", *rows)
    both, report = take(pictures, "both", file=file, scan="file", patient="who", group="family")
    assert report.patients == 3 and both.scans()["group"].nunique() == 2
    assert "no_patient_id" not in set(both.findings()["code"])
    alone, report = take(pictures, "alone", file=file, scan="file", group="family", targets=["kind"])
    assert report.patients == 2 and alone.targets() == ["kind"]


def test_units_with_conflicting_labels(pictures, take) -> None:
    file = table(pictures, "file,who,kind", "a0,p1,x", "a1,p1,y", "a2,p2,y", "a3,p3,y")
    cohort, _ = take(pictures, file=file, scan="file", patient="who")
    assert len(cohort.units("kind", "image")) == 4
    with pytest.raises(UserError, match="1 of 3 units"):
        cohort.units("kind", "patient")


def test_patients_of_dicom_and_nifti_by_one_column(tmp_path, take) -> None:
    """As in the demo: PatientID for DICOM, file or folder name for NIfTI; one patient has both."""
    source = tmp_path / "source"
    for i in range(3):
        about = {"PatientID": f"vp{i}", "InstitutionName": "Site", "SeriesInstanceUID": f"1.{i}"}
        dicoms.save(dicoms.series(dicoms.volume(seed=i), dicoms.AXIAL, **about), source / "dicom" / str(i))
    for name in ("vp2.nii.gz", "vp3.nii.gz", "vp4/t1.nii.gz"):
        path = source / "nifti" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(dicoms.volume(seed=len(name)).transpose(2, 1, 0), np.eye(4)), path)
    rows = [f"vp{i},{'ab'[i % 2]}" for i in range(5)]
    cohort, report = take(source, file=table(source, "patient,lesion", *rows), patient="patient")
    assert (report.scans, report.patients, report.labels["scans"]) == (6, 5, 6)
    assert cohort.units("lesion", "patient")["label"].value_counts().to_dict() == {"a": 3, "b": 2}
    assert cohort.targets() == ["lesion"]


def test_series_by_folder_and_by_uid(tmp_path, take) -> None:
    source = tmp_path / "source"
    for i in range(2):
        about = {"SeriesInstanceUID": f"1.2.{i}", "PatientID": f"p{i}"}
        dicoms.save(dicoms.series(dicoms.volume(seed=i), dicoms.AXIAL, **about), source / f"case{i}" / "axial")
    for name, rows in (("folder", ["case0/axial,a", "case1/axial,b"]), ("uid", ["1.2.0,a", "1.2.1,b"])):
        file = table(source, "series,label", *rows, name=f"{name}.csv")
        cohort, report = take(source, name, file=file, scan="series")
        assert report.labels["scans"] == 2 and len(cohort.labels("label")) == 2


def test_no_row_fits(pictures, take) -> None:
    with pytest.raises(UserError, match="none of 2 rows fits any of 4 scans") as error:
        take(pictures, file=table(pictures, "file,kind", "b1,x", "b2,y"), scan="file")
    assert error.value.fix and "a0" not in str(error.value)


def test_columns_that_do_not_exist(pictures, take) -> None:
    file = table(pictures, "file,patient_id,kind", "a0,p,x")
    for wrong in ({"scan": "fil"}, {"patient": "patientid"}, {"targets": ["knd"]}):
        with pytest.raises(UserError, match=r"Did you mean '(file|patient_id|kind)'"):
            take(pictures, file=file, **wrong)


@pytest.mark.parametrize(("lines", "match"), [([], "no rows"), (["file,kind"], "no rows"), (None, "does not exist")])
def test_no_table(pictures, take, lines, match) -> None:
    file = "labels.csv" if lines is None else table(pictures, *lines)
    with pytest.raises(UserError, match=match):
        take(pictures, file=file, scan="file")


def test_rows_that_disagree(pictures, take) -> None:
    with pytest.raises(UserError, match="1 scans have rows that disagree about: kind"):
        take(pictures, file=table(pictures, "file,kind", "a0,x", "a0,y", "a1,x", "a1,x"), scan="file")


def test_bare_names_that_mean_several_files(pictures, take) -> None:
    (pictures / "more").mkdir()
    (pictures / "more" / "a0.png").write_bytes((pictures / "images" / "a1.png").read_bytes())
    with pytest.raises(UserError, match="1 rows name files that exist in several folders"):
        take(pictures, file=table(pictures, "file,kind", "a0.png,x", "a1.png,y"), scan="file")


def test_labels_added_later(pictures, take, workspace) -> None:
    cohort, _ = take(pictures)
    before = cohort.hash
    assert "no_patient_id" in set(cohort.findings()["code"])
    path = pictures.parent / "later.csv"
    path.write_text("file,label,who\na0,x,p\na1,y,p\n")
    counts = add_labels(cohort.path, LabelColumns(file=str(path), scan="file", patient="who"), workspace)
    assert counts == {"rows": 2, "table_rows": 2, "scans": 2, "targets": ["label"], "matched_by": "file"}
    from medssl.cohort import Cohort

    again = Cohort.open(cohort.path)
    assert value_of(again, "label") == {0: "x", 1: "y"}
    assert again.scans()["patient"].nunique() == 3 and again.hash != before
    assert (again.findings()["code"] == "no_patient_id").sum() == 2


def test_columns_that_may_name_a_patient_are_taken_only_by_name(pictures, take) -> None:
    rows = [f"a{i},Jane Doe {i},10{i}77,{'xy'[i % 2]}" for i in range(4)]
    file = table(pictures, "file,who,mrn,kind", *rows)
    cohort, report = take(pictures, "quiet", file=file, scan="file")
    assert cohort.targets() == ["kind"]
    assert "2 columns" in report.labels["note"] and "--target" in report.labels["note"]
    cohort, report = take(pictures, "asked", file=file, scan="file", targets=["mrn"])
    assert cohort.targets() == ["mrn"] and "note" not in report.labels
