"""`check`: each concern is found where it is, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_duplicates import jpeg, scene
from test_samples import add
from typer.testing import CliRunner

from medssl.cli import app
from medssl.cohort import Cohort, catalog
from medssl.cohort.arrays import read_array, write_array
from medssl.cohort.check import Check, check
from medssl.cohort.splits import cohort_split, tied_patients
from medssl.config import Fractions


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    """12 different pictures of 12 patients whose ids are known."""
    made = Cohort.create(tmp_path / "cohort")
    for i in range(12):
        add(made, scene(i), patient=f"p{i:02d}", patient_from="id")
    return made


def copy(cohort: Cohort, scan: str, name: str, **changes) -> str:
    """The same pixels once more, under another id."""
    row = Cohort.open(cohort.path).scan(scan)
    row = {k: v for k, v in row.items() if k != "group"} | {"grp": None, "scan": name, "exam": f"e{name}"} | changes
    write_array(cohort.path, name, np.array(read_array(cohort.path, scan)))
    with catalog.writing(cohort.path) as db:
        catalog.put_scan(db, row)
    return name


def label(cohort: Cohort, values: dict[str, str]) -> None:
    with catalog.writing(cohort.path) as db:
        catalog.put_labels(db, [(scan, "kind", value) for scan, value in values.items()])


def look(cohort: Cohort) -> dict:
    """The concerns by code, as check.json has them."""
    found = check(Cohort.open(cohort.path))
    stored = json.loads((cohort.path / "check.json").read_text())
    assert stored == json.loads(json.dumps(found.as_json()))
    return {c["code"]: c for c in stored["concerns"]}


def first_scan(cohort: Cohort) -> str:
    return str(cohort.scans().set_index("patient").loc["p05", "scan"])


def test_a_clean_cohort_has_nothing_to_decide(cohort) -> None:
    label(cohort, {scan: "ab"[n % 2] for n, scan in enumerate(cohort.scans()["scan"])})
    assert look(cohort) == {}
    done = CliRunner().invoke(app, ["check", str(cohort.path)])
    assert done.exit_code == 0 and "Nothing has to be decided" in done.stdout
    assert not (cohort.path / "split.json").exists(), "a check must not draw the split"


def test_copies_within_a_patient_are_a_note(cohort) -> None:
    first = first_scan(cohort)
    twin = copy(cohort, first, "s" + "1" * 16)
    near = add(cohort, jpeg(scene(5)), patient="p05", patient_from="id")
    found = look(cohort)
    assert set(found) == {"exact_duplicates", "near_duplicates"} and not any(c["decide"] for c in found.values())
    assert set(found["exact_duplicates"]["cases"][0]["scans"]) == {first, twin}
    assert near in found["near_duplicates"]["cases"][0]["scans"]
    assert found["near_duplicates"]["cases"][0]["patients"] == 1


@pytest.mark.parametrize("how", ["exact", "near"])
def test_a_patient_under_two_keys_must_be_decided(cohort, how) -> None:
    if how == "exact":
        copy(cohort, first_scan(cohort), "s" + "1" * 16, patient="other", patient_from="file")
    else:
        add(cohort, jpeg(scene(5)), patient="other", patient_from="file")
    found = look(cohort)
    assert found["one_patient_two_keys"]["cases"][0]["patients"] == ["other", "p05"]
    done = CliRunner().invoke(app, ["check", str(cohort.path), "--json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 1 and answer["to_decide"] == ["one_patient_two_keys"]
    assert answer["leaks"]["pairs_across_patients"] == 1 and answer["leaks"]["pairs_torn_by_patient"] == 0.3


def test_files_without_patients_claim_no_identity(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    add(cohort, scene(0), patient="one")
    add(cohort, jpeg(scene(0)), patient="two")
    found = look(cohort)
    assert set(found) == {"near_duplicates", "unknown_patients_alike"}


def test_an_exam_of_two_patients(cohort) -> None:
    with catalog.writing(cohort.path) as db:
        db.execute("UPDATE scans SET exam='eshared' WHERE patient IN ('p03', 'p04')")
    found = look(cohort)
    assert found["exam_of_two_patients"]["cases"] == [{"exam": "eshared", "patients": ["p03", "p04"]}]


def test_labels_that_disagree(cohort) -> None:
    first = first_scan(cohort)
    near = add(cohort, jpeg(scene(5)), patient="p05", patient_from="id")
    label(cohort, {first: "benign", near: "malignant"})
    found = look(cohort)
    assert found["label_conflicts"]["decide"] and not found["labels_within_patients"]["decide"]
    assert found["label_conflicts"]["cases"][0]["values"] == ["benign", "malignant"]
    label(cohort, {near: "benign"})
    assert "label_conflicts" not in look(cohort)


def test_masks_that_disagree(cohort) -> None:
    first = first_scan(cohort)
    twin = copy(cohort, first, "s" + "1" * 16)
    mask = np.zeros((160, 200), np.uint8)
    write_array(cohort.path, first, mask, "mask")
    assert "mask_conflicts" not in look(cohort), "one mask contradicts nothing"
    mask[0, 0] = 1
    write_array(cohort.path, twin, mask, "mask")
    assert look(cohort)["mask_conflicts"]["decide"]


def test_blank_images_are_told_and_tie_nobody(cohort) -> None:
    blank = add(cohort, np.full((32, 32), 7, np.uint8), patient="p01", patient_from="id")
    copy(cohort, blank, "s" + "2" * 16, patient="p02")
    found = look(cohort)
    assert set(found) & {"exact_duplicates", "one_patient_two_keys"} == set()
    assert {case["scan"] for case in found["constant"]["cases"]} == {blank, "s" + "2" * 16}


def rows(cohort: Cohort, count: int, **changes) -> list[str]:
    """Small scans of noise that differ in nothing but their pixels."""
    rng = np.random.default_rng(len(changes))
    return [add(cohort, rng.integers(0, 99, (9, 9)).astype(np.int16), **changes) for _ in range(count)]


def test_outliers_in_gray_values_and_geometry(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    usual = {"0.5": -1000.0, "5": -900.0, "50": 30.0, "95": 200.0, "99.5": 900.0}
    ct = {"modality": "CT", "unit": "HU", "spacing": [0.7, 0.7]}
    rows(cohort, 30, **ct, percentiles=usual)
    bright = rows(cohort, 1, **ct, percentiles=usual | {"50": 400.0, "95": 1500.0}, body_part="x")[0]
    shifted = rows(cohort, 1, **ct, percentiles={k: v + 1024 for k, v in usual.items()}, body_part="x", vendor="x")[0]
    padded = rows(
        cohort, 1, **ct, percentiles=usual | {"0.5": -2048.0}, dtype="int16", body_part="y", vendor="y", exam="y"
    )[0]
    wide = rows(
        cohort,
        1,
        **(ct | {"spacing": [7.0, 7.0]}),
        percentiles=usual,
        **dict.fromkeys(("exam", "series", "vendor", "body_part", "source"), "z"),
    )[0]
    raw = rows(
        cohort,
        1,
        **(ct | {"unit": "a.u."}),
        percentiles=usual,
        **dict.fromkeys(("exam", "series", "vendor", "body_part", "source", "grp"), "w"),
    )[0]
    found = {code: [case["scan"] for case in c["cases"]] for code, c in look(cohort).items()}
    assert set(found.pop("intensity_outliers")) == {bright, shifted}
    assert found == {
        "ct_not_hu": [raw], "ct_without_air": [shifted], "ct_below_air": [padded], "geometry_outliers": [wide]
    }  # fmt: skip


def test_a_few_scans_have_no_outliers(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    rows(cohort, 3, percentiles={"0.5": 0.0, "5": 1.0, "50": 5.0, "95": 9.0, "99.5": 10.0})
    rows(cohort, 1, percentiles={"0.5": 0.0, "5": 1.0, "50": 5.0, "95": 9.0, "99.5": 1e9}, exam="x")
    assert look(cohort) == {}


def test_what_careless_splits_would_leak(cohort) -> None:
    """12 scans of 12 patients, to which one patient gets another scan: of 13, each of the pair is in the test part with
    probability .2, the other one in the rest with .8."""
    add(cohort, scene(99), patient="p05", patient_from="id")
    leaks = check(Cohort.open(cohort.path)).leaks
    assert leaks["test_scans"] == 2.6 and leaks["same_patient_by_scan"] == pytest.approx(2 * 0.2 * 0.8, abs=0.05)
    assert leaks["same_picture_by_scan"] == leaks["pairs_across_patients"] == 0 and "torn_by_split" not in leaks


def test_a_split_that_tears_duplicates_must_be_decided(cohort) -> None:
    for i in range(12):
        add(cohort, jpeg(scene(i)), patient=f"q{i:02d}", patient_from="id")
    whole = Cohort.open(cohort.path)
    blind = tied_patients(whole, whole.near_duplicates().iloc[:0])
    cohort_split(cohort.path, blind.assign(label="xy"[0]), Fractions(test=0.4, validation=0.2))
    found = look(cohort)
    assert found["torn_split"]["decide"] and found["torn_split"]["cases"][0]["groups"] > 0


def test_words_for_people_name_at_most_three_cases(cohort) -> None:
    for i in range(5):
        add(cohort, jpeg(scene(i)), patient=f"q{i}", patient_from="id")
    found: Check = check(Cohort.open(cohort.path))
    text = "\n".join(found.lines())
    assert text.count("patients p0") == 3 and "and 2 more" in text and "DECIDE" in text


def test_busi_must_be_decided(shared_data: Path, workspace, tmp_path) -> None:
    """Its groups of several images: pictures with two labels, and groups that share pictures with others."""
    import shutil

    import pandas as pd

    from medssl.config import LabelColumns
    from medssl.ingest import ingest

    table = pd.read_csv(shared_data / "busi" / "labels.csv")
    chosen = table[table.groupby("dup_group")["file"].transform("count") > 1]
    (tmp_path / "source").mkdir()
    for name in chosen["file"]:
        shutil.copy(next((shared_data / "busi").rglob(name)), tmp_path / "source" / name)
    chosen.to_csv(tmp_path / "source" / "labels.csv", index=False)
    columns = LabelColumns(file="labels.csv", scan="file", group="dup_group", targets=["label"])
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, labels=columns, jobs=1)
    found = check(Cohort.open(tmp_path / "cohort"))
    assert "label_conflicts" in {c.code for c in found.to_decide}
