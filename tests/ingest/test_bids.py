"""BIDS data sets: who and when from the path, sidecars, derivatives, participants.tsv."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.ingest import bids
from medssl.ingest.records import File


def save(path: Path, seed: int = 0, shape=(6, 5, 4), affine=None, values=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        values = np.random.default_rng(seed).integers(0, 900, shape).astype("int16")
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def labels(shape=(6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 3, shape).astype("uint8")


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Two subjects; the first has two sessions, two contrasts and a film; derivatives with masks in two spaces."""
    root = tmp_path / "ds"
    save(root / "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", 1)
    save(root / "sub-01/ses-a/anat/sub-01_ses-a_acq-fast_FLAIR.nii.gz", 2)
    save(root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz", 3, (4, 4, 3, 2), np.diag([2.0, 2, 2, 1]))
    save(root / "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz", 4)
    save(root / "sub-02/anat/sub-02_T1w.nii.gz", 5)
    save(root / "sub-02/pet/sub-02_pet.nii.gz", 6)
    made = root / "derivatives/prep"
    save(made / "sub-01/ses-a/anat/sub-01_ses-a_desc-preproc_T1w.nii.gz", 7)
    save(made / "sub-01/ses-a/anat/sub-01_ses-a_dseg.nii.gz", values=labels())
    save(made / "sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz", values=(labels() > 0).astype("uint8"))
    save(made / "sub-01/ses-a/anat/sub-01_ses-a_space-MNI_dseg.nii.gz", affine=np.diag([3.0, 3, 3, 1]))
    save(made / "sub-02/anat/sub-02_dseg.nii.gz", affine=np.diag([3.0, 3, 3, 1]), values=labels())
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    (root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.json").write_text("{}")
    (root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_events.tsv").write_text("onset\n1\n")
    return root


def test_patient_exam_and_modality_come_from_the_path(data_set, take) -> None:
    cohort, report = take(data_set)
    scans = cohort.scans()
    assert (report.scans, report.patients) == (7, 2)
    assert sorted(scans.groupby("patient")["exam"].nunique()) == [1, 2]
    assert set(scans["patient_from"]) == {"id"} and "no_patient_id" not in set(cohort.findings()["code"])
    found = [f"{row['modality']} {row['attributes']['bids_suffix']}" for row in scans.to_dict("records")]
    assert sorted(found) == ["MR FLAIR", "MR T1w", "MR T1w", "MR T1w", "MR bold", "MR bold", "PT pet"]
    assert report.ignored_as == {"bids_sidecar": 3, "bids_derivative": 2}


def test_masks_go_to_the_images_of_their_run_and_grid(data_set, take) -> None:
    cohort, _ = take(data_set)
    suffixes = {row["scan"]: row["attributes"]["bids_suffix"] for row in cohort.scans().to_dict("records")}
    masked = {suffix: cohort.mask(scan) for scan, suffix in suffixes.items() if cohort.mask(scan) is not None}
    assert set(masked) == {"T1w"}, "the FLAIR is another run, and sub-02's mask lies on another grid"
    np.testing.assert_array_equal(masked["T1w"], labels().transpose(2, 1, 0))
    rejected = cohort.files().query("status == 'rejected'")["code"]
    assert sorted(rejected) == ["mask_grid", "second_mask"]


def test_a_mask_of_a_film_goes_to_all_of_its_time_points(data_set, take) -> None:
    name = "derivatives/prep/sub-01/ses-a/func/sub-01_ses-a_task-rest_desc-brain_mask.nii.gz"
    save(data_set / name, values=(labels((4, 4, 3)) > 0).astype("uint8"), affine=np.diag([2.0, 2, 2, 1]))
    cohort, _ = take(data_set)
    points = [row["scan"] for row in cohort.scans().to_dict("records") if row["attributes"]["bids_suffix"] == "bold"]
    assert len(points) == 2 and all(cohort.mask(scan) is not None for scan in points)


def test_one_subject_label_in_two_data_sets_is_two_patients(tmp_path, take) -> None:
    for i, name in enumerate(("one", "two")):
        save(tmp_path / "source" / name / "sub-01/anat/sub-01_T1w.nii.gz", i)
    assert take(tmp_path / "source")[1].patients == 2


PEOPLE = """participant_id\tage\tsex\tscore\tphone\tcomment\tscanner
sub-01\t93\tF\t29.5\t5551234567\tsaw Dr. Canary\tA
sub-02\t41\tM\tn/a\t5551234568\tlikes tea\tA
sub-03\tn/a\tM\t12\t5551234569\tno scan\tA
"""


def test_participants_become_labels_without_what_may_name_them(data_set, take) -> None:
    (data_set / "participants.tsv").write_text(PEOPLE)
    cohort, report = take(data_set)
    assert sorted(cohort.targets()) == ["age", "scanner", "score", "sex"]
    owner = cohort.scans().set_index("scan")["patient"]
    ages = {owner[row["scan"]]: row["value"] for row in cohort.labels("age").to_dict("records")}
    assert sorted(ages.values()) == ["41", "90"] and len(cohort.labels("age")) == 7
    assert report.labels["rows"] == 2 and report.labels["table_rows"] == 3
    assert any("participants.tsv" in line and "2 of its columns" in line for line in report.lines())
    assert report.ignored_as["label_table"] == 1
    assert b"Canary" not in (cohort.path / "catalog.sqlite").read_bytes()


@pytest.mark.parametrize(
    "text", ["participant_id\tsex\nsub-99\tF\n", "name\tsex\nx\tF\n", "participant_id\n", PEOPLE * 2]
)
def test_participants_that_fit_nothing_fail_nothing(data_set, take, text) -> None:
    (data_set / "participants.tsv").write_text(text)
    assert take(data_set)[1].scans == 7


def test_a_named_table_is_taken_instead(data_set, take) -> None:
    (data_set / "participants.tsv").write_text(PEOPLE)
    (data_set / "own.csv").write_text("who,finding\nsub-01,yes\nsub-02,no\n")
    cohort, report = take(data_set, file="own.csv", patient="who")
    assert cohort.targets() == ["finding"] and "note" not in report.labels


@pytest.mark.parametrize(
    ("name", "subject", "session", "suffix"),
    [
        ("sub-7/anat/sub-7_T1w.nii.gz", "sub-7", "", "T1w"),
        ("raw/sub-7/sub-7_ses-2_run-01_T2w.nii", "sub-7", "ses-2", "T2w"),
        ("sub-7/anat/sub-8_T1w.nii.gz", None, None, None),
        ("subjects/7/T1w.nii.gz", None, None, None),
        ("sub-7/T1w.nii.gz", None, None, None),
    ],
)
def test_places(name, subject, session, suffix) -> None:
    where = bids.place(File("/x", "source", name, 1, 1, "f"))
    assert (where and where.subject, where and where.session, where and where.suffix) == (subject, session, suffix)
