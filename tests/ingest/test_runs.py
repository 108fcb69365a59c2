"""Runs of ingest: accounting, reruns, changes in the source, and SIGKILL."""

from __future__ import annotations

import ctypes
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medssl.cohort import Cohort, catalog
from medssl.cohort.splits import Split, cohort_split, tied_patients
from medssl.config import Fractions, LabelColumns
from medssl.errors import UserError
from medssl.ingest import ingest, pool, run, scans
from medssl.ingest.readers import dicom as dicom_reader
from medssl.ingest.readers import image as image_reader
from medssl.ingest.readers import nifti as nifti_reader


def pictures(folder: Path, count: int, size: int = 32) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (size, size)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")


def masked(folder: Path, count: int) -> None:
    """NIfTI volumes with their masks; the last mask has fractions."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        values = np.random.default_rng(i).integers(0, 3, (6, 7, 8)).astype(np.int16)
        nib.save(nib.Nifti1Image(values * 100, np.eye(4)), folder / "images" / f"{i}.nii.gz")
        mask = values.astype(np.float32) / (1 + (i == count - 1))
        nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / "labels" / f"{i}.nii.gz")


def contents(cohort: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cohort)): p.read_bytes() for p in sorted((cohort / "arrays").rglob("*")) if p.is_file()}


def dump(cohort: Path) -> list[tuple]:
    with catalog.reading(cohort) as db:
        return [
            row
            for table in ("scans", "files", "parts", "findings", "labels", "masks", "names", "refused", "meta")
            for row in sorted(map(repr, db.execute(f"SELECT * FROM {table}")))
        ]


def test_a_mixture_is_accounted_for(tmp_path, workspace) -> None:
    source = tmp_path / "source"
    pictures(source / "pictures", 3)
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), source / "dicom", [f"IM{i}" for i in range(6)])
    nib.save(nib.Nifti1Image(dicoms.volume(), np.eye(4)), source / "a.nii.gz")
    (source / "notes.txt").write_text("x")
    (source / "broken.dcm").write_bytes(b"x" * 10)
    (source / "link").symlink_to(source / "pictures")
    (source / "circle").symlink_to(source)
    (source / "dangling.png").symlink_to(source / "nowhere.png")
    report = ingest([source], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert report.found == report.accepted + report.rejected + report.ignored
    assert (report.scans, report.accepted, report.rejected) == (5, 10, 1)
    assert report.ignored_as == {"not_a_scan": 1, "unsafe_link": 1}
    files = Cohort.open(tmp_path / "cohort").files()
    assert len(files) == report.found == 13
    assert files.query("status != 'accepted'")["code"].ne("").all()


def test_a_rerun_decodes_nothing_and_changes_nothing(tmp_path, workspace, monkeypatch) -> None:
    pictures(tmp_path / "source", 5)
    first = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
    before = dump(tmp_path / "cohort")
    monkeypatch.setattr(image_reader, "read", lambda job: pytest.fail("an unchanged file was decoded again"))
    second = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert first.as_json() == second.as_json() and dump(tmp_path / "cohort") == before


def test_a_source_that_changed(tmp_path, workspace) -> None:
    source, place = tmp_path / "source", tmp_path / "cohort"
    pictures(source, 4)
    ingest([source], place, workspace=workspace)
    before = Cohort.open(place).scans().set_index("scan")["content_hash"]
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(source / "0001.png")  # another picture
    (source / "0002.png").write_bytes(b"no picture any more")
    pictures(source / "new", 1, size=20)
    report = ingest([source], place, workspace=workspace)
    after = Cohort.open(place).scans().set_index("scan")["content_hash"]
    assert (report.scans, report.accepted, report.rejected) == (4, 4, 1)
    assert len(before.index.intersection(after.index)) == 3
    assert (before.reindex(after.index) == after).sum() == 2
    assert len(contents(place)) == 4


def test_the_same_source_gives_the_same_cohort_in_another_workspace(tmp_path) -> None:
    """Keyed names differ, but content, order and hash do not: results can be compared across workspaces."""
    from medssl.workspace import Workspace

    pictures(tmp_path / "source", 6)
    cohorts = []
    for name in ("one", "two"):
        ingest([tmp_path / "source"], tmp_path / name, workspace=Workspace(tmp_path / f"{name}_space"))
        cohorts.append(Cohort.open(tmp_path / name))
    a, b = cohorts
    assert a.hash == b.hash and set(a.scans()["scan"]).isdisjoint(b.scans()["scan"])
    assert list(a.scans()["content_hash"]) == list(b.scans()["content_hash"])
    assert a.samples().key == b.samples().key


@pytest.mark.parametrize("make", [None, "empty"])
def test_missing_and_empty_sources(tmp_path, workspace, make) -> None:
    if make:
        (tmp_path / "source").mkdir()
    with pytest.raises(UserError, match=r"does not exist|holds no files"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
    assert not (tmp_path / "cohort").exists()


def test_two_sources_of_one_name(tmp_path, workspace) -> None:
    for side in "ab":
        pictures(tmp_path / side / "images", 1)
    with pytest.raises(UserError, match="same folder name"):
        ingest([tmp_path / "a" / "images", tmp_path / "b" / "images"], tmp_path / "cohort", workspace=workspace)


def test_a_folder_that_is_no_cohort_is_left_alone(tmp_path, workspace) -> None:
    pictures(tmp_path / "source", 1)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds something else"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
    assert [p.name for p in (tmp_path / "cohort").iterdir()] == ["thesis.txt"]


def test_only_one_writer(tmp_path, workspace) -> None:
    pictures(tmp_path / "source", 1)
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
    with catalog.only_writer(tmp_path / "cohort"), pytest.raises(UserError, match="another process"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)


def test_a_full_disk_is_said_and_the_run_goes_on_later(tmp_path, workspace, monkeypatch) -> None:
    from medssl.errors import MedsslError
    from medssl.ingest import store

    pictures(tmp_path / "source", 3)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_array", full)
        with pytest.raises(MedsslError, match="No space left"):
            ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace).accepted == 3


def spied(monkeypatch, *modules) -> list[str]:
    """The scans that these readers decode from now on (with `jobs=0`)."""
    decoded: list[str] = []
    for module in modules:
        read = module.read
        monkeypatch.setattr(module, "read", lambda job, read=read: decoded.append(job.scan) or read(job))
    return decoded


def test_a_rerun_decodes_nothing_of_what_was_refused(tmp_path, workspace, monkeypatch) -> None:
    source, place = tmp_path / "source", tmp_path / "cohort"
    pictures(source, 3)
    whole = (source / "0001.png").read_bytes()
    (source / "0001.png").write_bytes(whole[:-300])
    first = ingest([source], place, workspace=workspace, jobs=0)
    decoded = spied(monkeypatch, image_reader)
    second = ingest([source], place, workspace=workspace, jobs=0)
    assert (first.accepted, first.rejected) == (2, 1) and first.as_json() == second.as_json() and not decoded
    (source / "0001.png").write_bytes(whole)
    third = ingest([source], place, workspace=workspace, jobs=0)
    assert (third.accepted, third.rejected, len(decoded)) == (3, 0, 1) and "truncated" not in {
        f["code"] for f in third.findings
    }


def test_masks_follow_their_scans_and_refused_ones_are_not_read_again(tmp_path, workspace, monkeypatch) -> None:
    source, place = tmp_path / "source", tmp_path / "cohort"
    masked(source, 3)
    first = ingest([source], place, workspace=workspace, jobs=0)
    assert (first.scans, first.accepted, first.rejected) == (3, 5, 1)
    decoded = spied(monkeypatch, nifti_reader)
    assert ingest([source], place, workspace=workspace, jobs=0).as_json() == first.as_json() and not decoded
    (source / "images" / "0.nii.gz").write_bytes(b"nothing")
    report = ingest([source], place, workspace=workspace, jobs=0)
    assert (report.scans, report.accepted, report.rejected) == (2, 3, 3), "a mask keeps no scan alive"
    assert len(contents(place)) == 3


def test_what_an_older_reader_refused_is_tried_again(tmp_path, workspace, monkeypatch) -> None:
    pictures(tmp_path / "source", 2)
    (tmp_path / "source" / "0001.png").write_bytes((tmp_path / "source" / "0001.png").read_bytes()[:-300])
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    decoded = spied(monkeypatch, image_reader)
    monkeypatch.setattr(run, "code_revision", lambda *rooms: "newer")
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert len(decoded) == 1


def test_time_points_that_are_gone_are_gone(tmp_path, workspace) -> None:
    (tmp_path / "source").mkdir()
    pictures(tmp_path / "source", 1)
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7, 4)).astype(np.int16)
    shapes = []
    for points in (values, values[..., :2], values[..., 0], values):
        nib.save(nib.Nifti1Image(points, np.eye(4)), tmp_path / "source" / "a.nii")
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
        scans = Cohort.open(tmp_path / "cohort").scans()
        shapes.append(len(scans) - 1)
        assert len(contents(tmp_path / "cohort")) == len(scans)
    assert shapes == [4, 2, 1, 4]


def test_strict_rejects_what_is_flagged_and_another_run_decides_anew(tmp_path, workspace, monkeypatch) -> None:
    source, place = tmp_path / "source", tmp_path / "cohort"
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, SeriesInstanceUID="1.1"), source / "whole")
    few = dicoms.series(dicoms.volume(seed=1), dicoms.AXIAL, SeriesInstanceUID="1.2")[:2]
    dicoms.save(few, source / "few")
    pictures(source / "pictures", 2)
    default = ingest([source], place, workspace=workspace, jobs=0)
    loose = dump(place)
    assert (default.scans, default.accepted) == (4, 10)
    decoded = spied(monkeypatch, image_reader, dicom_reader)
    strict = ingest([source], place, workspace=workspace, jobs=0, strict=True)
    assert not decoded, "findings are in the catalog"
    assert (strict.scans, strict.accepted, strict.rejected) == (1, 6, 4)
    assert {f["code"]: f["count"] for f in strict.findings if f["severity"] == "error"} == {
        "few_slices": 2,
        "no_patient_id": 2,
    }
    assert len(contents(place)) == 1
    again = ingest([source], place, workspace=workspace, jobs=0, strict=True)
    assert again.as_json() == strict.as_json() and not decoded
    straight = ingest([source], tmp_path / "straight", workspace=workspace, jobs=0, strict=True)
    assert dump(tmp_path / "straight") == dump(place)
    assert {**straight.as_json(), "cohort": ""} == {**strict.as_json(), "cohort": ""}
    ingest([source], place, workspace=workspace, jobs=0)
    assert dump(place) == loose


def test_strict_with_a_table_that_names_patients(tmp_path, workspace) -> None:
    pictures(tmp_path / "source", 3)
    with pytest.raises(UserError, match="3 rejected"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0, strict=True)
    (tmp_path / "source" / "labels.csv").write_text("file,who,label\n0000.png,Jo,1\n0001.png,Jo,2\n0002.png,Al,1\n")
    columns = LabelColumns(file="labels.csv", patient="who")
    report = ingest(
        [tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0, strict=True, labels=columns
    )
    assert (report.scans, report.patients, report.rejected) == (3, 2, 0)


def test_strict_rejects_masks_with_their_scans(tmp_path, workspace) -> None:
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), tmp_path / "source" / "dicom")
    masked(tmp_path / "source" / "nifti", 2)
    report = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0, strict=True)
    assert (report.scans, report.accepted, report.rejected) == (1, 6, 4)
    assert len(contents(tmp_path / "cohort")) == 1


def the_split(place: Path) -> Split:
    """As an experiment would draw it now."""
    cohort = Cohort.open(place)
    patients = tied_patients(cohort)
    return cohort_split(place, patients.assign(label=[i % 2 for i in range(len(patients))]), Fractions())


def test_a_source_that_grew_keeps_its_test_patients(tmp_path, workspace, monkeypatch) -> None:
    source, place = tmp_path / "source", tmp_path / "cohort"
    for patient in range(20):
        slices = dicoms.series(dicoms.volume((5, 8, 8), patient), dicoms.AXIAL, SeriesInstanceUID=f"1.{patient}")
        for item in slices:
            item.PatientID = f"P{patient}"
        dicoms.save(slices, source / f"{patient}")
    ingest([source], place, workspace=workspace, jobs=0)
    before = the_split(place)
    decoded = spied(monkeypatch, dicom_reader)
    for patient in range(10, 40):
        slices = dicoms.series(dicoms.volume((5, 8, 8), 100 + patient), dicoms.AXIAL, SeriesInstanceUID=f"2.{patient}")
        for item in slices:
            item.PatientID = f"P{patient}"
        dicoms.save(slices, source / f"more{patient}")
    report = ingest([source], place, workspace=workspace, jobs=0)
    after = the_split(place)
    assert (report.scans, report.patients, len(decoded)) == (50, 40, 30)
    assert before.test and set(before.test) <= set(after.test)
    assert not set(before.test) & {*after.pool, *after.validation}


@pytest.mark.parametrize("kind", ["crashed", "timed_out", "out_of_memory"])
def test_a_decoder_that_dies_costs_its_scan_alone(tmp_path, workspace, monkeypatch, kind) -> None:
    pictures(tmp_path / "source", 3)
    pictures(tmp_path / "source" / "bad", 1, size=77)
    monkeypatch.setattr(scans, "_read_chunk", deadly)
    ingest([tmp_path / "source"], tmp_path / "calm", workspace=workspace, jobs=2)  # its processes import what they need
    if kind == "timed_out":
        monkeypatch.setattr(pool, "LIMIT_S", 4.0)
    report = ingest([tmp_path / "source"], tmp_path / kind, workspace=workspace, jobs=2)
    assert (report.accepted, report.rejected) == (3, 1)
    assert [f["code"] for f in report.findings if f["severity"] == "error"] == [kind]
    monkeypatch.undo()
    report = ingest([tmp_path / "source"], tmp_path / kind, workspace=workspace, jobs=2)
    assert (report.accepted, report.rejected) == (4, 0), "what depends on the day is tried again"


def deadly(folder: str, jobs):
    """In the worker: what a codec may do to it, by the cohort's name."""
    bad = jobs[0].files[0].name.startswith("bad/")
    if bad and folder.endswith("crashed"):
        ctypes.string_at(0)
    if bad and folder.endswith("timed_out"):
        time.sleep(1000)
    with pytest.MonkeyPatch.context() as patch:
        if bad:
            patch.setattr(image_reader, "read", lambda job: np.ones(1 << 45))
        return scans._read_chunk(folder, jobs)


SCRIPT = """
import sys
from medssl.ingest import ingest
from medssl.workspace import Workspace
ingest([sys.argv[1]], sys.argv[2], workspace=Workspace(sys.argv[3]), jobs=2)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_at_a_random_moment_goes_on_to_the_same_cohort(tmp_path, workspace, seed) -> None:
    source = tmp_path / "source"
    pictures(source / "pictures", 60, size=200)
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), source / "dicom")
    masked(source / "masked", 4)
    (source / "pictures" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    whole, killed = tmp_path / "whole" / "cohort", tmp_path / "killed" / "cohort"
    start = time.monotonic()
    ingest([source], whole, workspace=workspace, jobs=2)
    span = time.monotonic() - start
    chance = random.Random(seed)
    command = [sys.executable, "-c", SCRIPT, str(source), str(killed), str(workspace.path)]
    for _ in range(20):  # until one is not over before it is killed
        shutil.rmtree(killed, ignore_errors=True)
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and not killed.exists():  # imports are no moment of an ingest
            time.sleep(0.002)
        time.sleep(chance.uniform(0, span))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            break
        span /= 2  # the machine was busier when the whole run was timed
    else:
        pytest.fail("no run was killed")
    ingest([source], killed, workspace=workspace, jobs=2)
    assert contents(killed) == contents(whole) and dump(killed) == dump(whole)
    assert not list(killed.glob("arrays/*/.*"))


def test_a_catalog_that_was_killed_at_its_birth_is_not_complete_and_is_ingested(workspace, tmp_path):
    from PIL import Image

    from medssl.ingest import is_complete

    folder = tmp_path / "scans"
    folder.mkdir()
    for shade in (10, 200):
        Image.new("L", (32, 32), shade).save(folder / f"{shade}.png")
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    (cohort / "catalog.sqlite").touch()  # what SIGKILL leaves between the file and its first table
    assert not is_complete(cohort)
    assert ingest([folder], cohort, workspace=workspace).scans == 2
    assert is_complete(cohort)
