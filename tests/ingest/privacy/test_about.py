from datetime import date

import pytest

from medssl.cohort import Cohort
from medssl.config import LabelColumns
from medssl.ingest import add_labels
from medssl.ingest.identity import Keys, is_generic
from medssl.ingest.privacy.about import about, attributes, moved
from tests.ingest.dicoms import AXIAL, image, save, series, volume


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "010D"}, 0),
        ({"PatientAge": "095Y"}, 90),
        ({"PatientAge": "090Y"}, 90),
        ({"PatientAge": "089Y"}, 89),
        ({"PatientAge": "333Y"}, None),
        ({"PatientAge": "old"}, None),
        ({"PatientBirthDate": "19500102", "StudyDate": "20000101"}, 49),
        ({"PatientBirthDate": "19500102", "StudyDate": "20000102"}, 50),
        ({"PatientBirthDate": "19000101", "StudyDate": "20000102"}, 90),
        ({"PatientBirthDate": "20010101", "StudyDate": "20000102"}, None),
        ({"PatientBirthDate": "19501399", "StudyDate": "20000102"}, None),
        ({}, None),
    ],
)
def test_ages_are_years_and_stop_at_ninety(values, age):
    assert about(values).age == age


def test_words_come_from_closed_vocabularies():
    assert about({"PatientSex": "f "}).sex == "F"
    assert about({"PatientSex": "DOE^JANE"}).sex == "unknown"
    assert about({"BurnedInAnnotation": "DOE"}).burned_in == ""


def test_dates_move_by_whole_weeks_that_the_patient_decides(workspace):
    keys, true = Keys(workspace), date(2020, 3, 4)
    found = about({"StudyDate": "20200304"})
    days = [date.fromisoformat(attributes(found, keys, f"p{i}")["study_date"]) for i in range(200)]
    assert all(day != true and (day - true).days % 7 == 0 and abs(day - true).days <= 3640 for day in days)
    assert len(set(days)) > 150 and min(days) < true < max(days)
    again = attributes(found, keys, "p0")
    assert again["study_date"] == days[0].isoformat()
    assert moved(again, keys, "p0", "p7")["study_date"] == days[7].isoformat()


def test_the_catalog_has_the_shifted_date_and_a_label_table_shifts_it_anew(take, tmp_path, workspace):
    source = tmp_path / "source"
    who = {"PatientSex": "F", "PatientAge": "094Y", "StudyDate": "20200304", "SOPInstanceUID": "1.2.3.9"}
    save([image(volume((1, 20, 24))[0], PatientID="ANON", **who)], source, ["a.dcm"])
    cohort, _ = take(source)
    (row,) = cohort.scans().to_dict("records")
    keys, true = Keys(workspace), date(2020, 3, 4)

    def shift(scan):
        return (date.fromisoformat(scan["attributes"]["study_date"]) - true).days

    assert row["patient_from"] == "exam" and row["attributes"]["age"] == 90 and row["attributes"]["sex"] == "F"
    assert shift(row) == keys.days(row["patient"])
    table = tmp_path / "table.csv"
    table.write_text("scan,patient,label\na.dcm,DOE,x\n")
    add_labels(cohort, LabelColumns(file=str(table), scan="scan", patient="patient"), workspace)
    (after,) = Cohort.open(cohort.path).scans().to_dict("records")
    assert after["patient"] != row["patient"] and shift(after) == keys.days(after["patient"]) != shift(row)

    save([image(volume((1, 20, 24), seed=1)[0], PatientID="ANON", **who)], source, ["a.dcm"])  # a changed file
    cohort, _ = take(source)
    (again,) = cohort.scans().to_dict("records")
    assert again["patient"] == after["patient"] and shift(again) == shift(after)


def test_ids_that_everybody_has_are_generic():
    everybody = ("", "ANON", "Anonymous Patient", "anonymous^patient", "0000000000", "N/A", "XXXXXXXXXX", "no name")
    assert all(map(is_generic, everybody))
    assert not any(map(is_generic, ("P-0001", "1", "Nona", "100", "Tester")))


def test_the_patient_key_needs_the_secret_the_issuer_and_the_id(take, tmp_path, workspace):
    from medssl.workspace import Workspace

    names = (("A", "HOSPITAL"), ("A", "CLINIC"), ("B", "HOSPITAL"))
    objects = [
        image(
            volume((1, 20, 24), seed=i)[0],
            PatientID=who,
            InstitutionName=where,
            SeriesInstanceUID=f"1.2.{i}",
            StudyInstanceUID=f"1.3.{i}",
        )
        for i, (who, where) in enumerate(names)
    ]
    save(objects, tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    assert cohort.scans()["patient"].nunique() == 3
    assert (workspace.path / "secret").stat().st_mode & 0o777 == 0o600
    assert Keys(workspace).patient("hospital", "A") in set(cohort.scans()["patient"])
    assert Keys(Workspace(tmp_path / "other")).patient("hospital", "A") not in set(cohort.scans()["patient"])
    assert not list(cohort.path.rglob("secret"))


def test_a_series_keeps_its_day(take, tmp_path):
    save(series(volume(), AXIAL, StudyDate="2020.03.04", PatientBirthDate="19900101"), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    (row,) = cohort.scans().to_dict("records")
    assert row["attributes"]["age"] == 30 and date.fromisoformat(row["attributes"]["study_date"]).isoweekday() == 3
