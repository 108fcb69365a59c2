"""Looks before an ingest and a labelling: right counts, nothing stored, and nothing shown that could name a patient."""

from __future__ import annotations

import dicoms
import pytest

from medssl.cohort import Cohort
from medssl.config import LabelColumns
from medssl.errors import UserError
from medssl.ingest import add_labels, ingest
from medssl.ingest.preview import LARGEST_TABLE, column_names, preview_labels, preview_source, refuse_no_text


@pytest.fixture
def source(tmp_path):
    """Six patients with a volume of three slices each, and a file that is none."""
    folder = tmp_path / "scans"
    for i in range(6):
        about = {"PatientID": f"MILLER{i}", "SeriesInstanceUID": f"1.2.{i}", "StudyInstanceUID": f"1.{i}"}
        objects = dicoms.series(dicoms.volume((3, 16, 16), seed=i), dicoms.AXIAL, **about)
        dicoms.save(objects, folder / f"{i}")
    (folder / "notes.doc").write_text("nothing")
    return folder


@pytest.fixture
def cohort(source, workspace):
    ingest([source], workspace.cohort("c"), workspace=workspace, jobs=0)
    return Cohort.open(workspace.cohort("c"))


def table(folder, *lines: str, name: str = "labels.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def test_a_source_is_counted_and_known_by_content(source, workspace):
    found = preview_source(source, workspace)
    assert (found.files, found.looked_at, found.kinds) == (19, 19, {"dicom": 18, "other": 1})
    assert found.size == sum(f.stat().st_size for f in source.rglob("*") if f.is_file())
    assert 0 < found.need <= found.size and found.free > 0
    assert "19 files" in str(found) and "18 DICOM, 1 other" in str(found) and str(source) not in str(found)
    assert not workspace.cohorts()


def test_more_files_are_sampled(tmp_path, workspace):
    for i in range(250):
        (tmp_path / f"{i}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    found = preview_source(tmp_path, workspace)
    assert found.files == 250 and found.looked_at == 100 and found.kinds == {"dicom": 100}
    assert "Of 100 that were looked at" in str(found)


def test_an_empty_folder_is_said(tmp_path, workspace):
    with pytest.raises(UserError, match="holds no files"):
        preview_source(tmp_path, workspace)


def test_the_preview_says_what_labelling_then_does(cohort, source, workspace):
    rows = [f"MILLER{i},{'ab'[i % 2]},x" for i in range(5)]
    file = table(source, "who,kind,site", *rows, "NOBODY,a,x")
    columns = LabelColumns(file=file, patient="who", targets=["kind"])
    found = preview_labels(cohort, columns, workspace)
    assert (found.rows, found.table_rows, found.scans, found.all_scans) == (5, 6, 5, 6)
    assert found.matched_by == "who" and found.patients == 5
    assert found.classes == {"kind": {"a": 3, "b": 2}}
    assert cohort.targets() == [], "a preview stores nothing"
    counts = add_labels(cohort, columns, workspace)
    assert (counts["rows"], counts["table_rows"], counts["scans"]) == (found.rows, found.table_rows, found.scans)


def test_values_that_could_name_a_patient_are_counted_and_not_shown(cohort, source, workspace):
    rows = [f"MILLER{i},Jane Doe the {i}th,{100 + i},{'ab'[i % 2]}" for i in range(6)]
    file = table(source, "who,name,number,kind", *rows)
    found = preview_labels(
        cohort, LabelColumns(file=file, targets=["name", "number", "kind"], patient="who"), workspace
    )
    assert found.classes["name"] == {} and found.classes["number"] == {} and found.values["name"] == 6
    assert found.classes["kind"] == {"a": 3, "b": 3}
    assert "Jane" not in repr(found) and "MILLER" not in repr(found)
    unasked = preview_labels(cohort, LabelColumns(file=file, patient="who"), workspace)
    assert "name" in unasked.odd and "name" not in unasked.classes


def test_a_table_that_fits_nothing_is_said(cohort, source, workspace):
    file = table(source, "who,kind", "X1,a", "X2,b")
    with pytest.raises(UserError, match="none of 2 rows fits any of 6 scans") as error:
        preview_labels(cohort, LabelColumns(file=file, patient="who"), workspace)
    assert "labels.csv" not in str(error.value) and "--patient-column" in error.value.fix


def test_columns_are_named_and_values_in_their_place_refused(source):
    assert column_names(table(source, "who; kind ;", "1;a;")) == ["who", "kind"]
    with pytest.raises(UserError, match="holds values"):
        column_names(table(source, "4711,a", "4712,b"))


@pytest.mark.parametrize(
    ("name", "size", "head", "said"),
    [
        ("labels.csv", 9, b"PK\x03\x04....", "spreadsheet"),
        ("labels.csv", 9, b"\xd0\xcf\x11\xe0....", "spreadsheet"),
        ("labels.xlsx", 9, b"a,b\n", "ends in .csv"),
        ("secret", 9, b"a,b\n", "ends in .csv"),
        ("labels.csv", LARGEST_TABLE + 1, b"a,b\n", "are allowed"),
        ("labels.csv", 9, b"a\0b", "not text"),
        ("labels.csv", 2, b" \n", "empty"),
    ],
)
def test_other_files_are_no_label_tables(name, size, head, said):
    with pytest.raises(UserError, match=said):
        refuse_no_text(name, size, head)
    refuse_no_text("labels.TSV", 9, b"a\tb\n")


def test_bytes_that_are_no_text_are_said(source):
    (source / "latin.csv").write_bytes("who,kind\nMüller,a\n".encode("latin-1"))
    with pytest.raises(UserError, match="not readable text"):
        column_names(source / "latin.csv")
