"""Runs of ingest: accounting, reruns, changes in the source, and SIGKILL."""

from __future__ import annotations

import os
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
from medssl.errors import UserError
from medssl.ingest import ingest
from medssl.ingest.readers import image as image_reader


def pictures(folder: Path, count: int, size: int = 32) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (size, size)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")


def contents(cohort: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cohort)): p.read_bytes() for p in sorted((cohort / "arrays").rglob("*")) if p.is_file()}


def dump(cohort: Path) -> list[tuple]:
    with catalog.reading(cohort) as db:
        return [
            row
            for table in ("scans", "files", "findings", "labels", "names")
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


SCRIPT = """
import sys
from medssl.ingest import ingest
from medssl.workspace import Workspace
ingest([sys.argv[1]], sys.argv[2], workspace=Workspace(sys.argv[3]), jobs=2)
"""


def test_a_killed_run_goes_on_to_the_same_cohort(tmp_path, workspace) -> None:
    source = tmp_path / "source"
    pictures(source / "pictures", 120, size=200)
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), source / "dicom")
    whole, killed = tmp_path / "whole" / "cohort", tmp_path / "killed" / "cohort"
    ingest([source], whole, workspace=workspace, jobs=0)
    command = [sys.executable, "-c", SCRIPT, str(source), str(killed), str(workspace.path)]
    kills = 0
    for enough in (1, 60):  # killed once some arrays are there, twice
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < limit:
            if sum(1 for _ in killed.glob("arrays/*/*.npy")) >= enough:
                os.killpg(process.pid, signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            time.sleep(0.005)
    assert kills >= 1, "the run was over before it could be killed"
    ingest([source], killed, workspace=workspace, jobs=0)
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
