"""Opening and telling files: what the disk does is told from what a file is."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

import dicoms
import pytest
from test_runs import pictures

from medssl.cohort import Cohort
from medssl.errors import MedsslError, UserError
from medssl.ingest import discover, disk, estimate, ingest
from medssl.ingest.opening import open_file
from medssl.ingest.records import File, Reject


def file_at(path: Path | str, size: int = 8) -> File:
    return File(str(path), "scans", "scan.png", size, 0, "f0")


def test_a_file_that_may_not_be_read_is_rejected(tmp_path, monkeypatch) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")

    def forbidden(self, path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(disk._Raw, "__init__", forbidden)  # tests may run as root, who may read all
    with pytest.raises(Reject) as verdict:
        discover.sniff(file_at(path))
    assert verdict.value.code == "unreadable"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails (Linux)")
def test_a_disk_that_fails_is_no_damaged_file() -> None:
    stream = open_file(file_at("/proc/self/mem"))  # address 0 is nobody's: reading it is an input/output error
    for read in (lambda: stream.read(10), stream.read, lambda: stream.readinto(bytearray(1 << 20))):
        with pytest.raises(disk.SourceFailed, match="cannot be read"):
            read()


def test_a_disk_that_fails_ends_the_run_with_the_reason_and_a_rerun_goes_on(tmp_path, workspace, monkeypatch) -> None:
    pictures(tmp_path / "source", 30)
    opened = set()

    def failing(self, buffer):
        opened.add(Path(self.name).name)
        if "0029.png" in opened and self.name.endswith("0020.png"):  # in the second pass
            raise disk._told(OSError(errno.EIO, "Input/output error"))
        return super(disk._Raw, self).readinto(buffer)

    with monkeypatch.context() as patch:
        patch.setattr(disk._Raw, "readinto", failing)
        with pytest.raises(MedsslError, match="Input/output error") as error:
            ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert error.value.exit_code == 1 and "run the same command again" in error.value.fix
    assert 0 < len(Cohort.open(tmp_path / "cohort")) < 30
    report = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace)
    assert (report.accepted, report.rejected) == (30, 0)


def test_a_source_that_goes_away_ends_the_run_and_takes_no_scan_with_it(tmp_path, workspace, monkeypatch) -> None:
    pictures(tmp_path / "source", 3)
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    find = discover.find_files

    def then_unmount(places, keys):
        found = find(places, keys)
        (tmp_path / "source").rename(tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(discover, "find_files", then_unmount)
    with pytest.raises(MedsslError, match="went away"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=1)
    assert len(Cohort.open(tmp_path / "cohort")) == 3


def test_a_disk_that_is_too_small_is_said_before_anything_is_read(tmp_path, workspace, monkeypatch, capsys) -> None:
    source = tmp_path / "source"
    dicoms.save(dicoms.series(dicoms.volume((8, 200, 300)), dicoms.AXIAL), source)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(estimate.shutil, "disk_usage", lambda place: usage._replace(free=64 << 20))
        with pytest.raises(UserError, match="the disk has 67 MB free, and the cohort needs about 960 kB more"):
            ingest([source], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert not list((tmp_path / "cohort").glob("arrays/*/*"))
    assert ingest([source], tmp_path / "cohort", workspace=workspace, jobs=0).scans == 1
    said = capsys.readouterr().err
    assert "8 files, 9" in said and "1 scans to read: less than a minute, about 960 kB" in said


def test_estimates_of_real_scans_are_near(shared_data, tmp_path, workspace, capsys) -> None:
    ingest([shared_data / "siim_ct_dicom"], tmp_path / "cohort", workspace=workspace, jobs=0)
    took = sum(p.stat().st_size for p in (tmp_path / "cohort" / "arrays").rglob("*.npy") if "padding" not in p.name)
    said = float(re.search(r"about (\d+) MB", capsys.readouterr().err)[1]) * 1e6
    assert said == pytest.approx(took, rel=0.15)


def test_another_source_of_the_same_name_takes_no_scan_away(tmp_path, workspace) -> None:
    """As the discs of two patients: each has its DICOM/IM0001."""
    for disc in (1, 2):
        ids = {"PatientID": f"P{disc}", "SeriesInstanceUID": f"1.2.{disc}"}
        scans = dicoms.series(dicoms.volume(seed=disc), dicoms.AXIAL, **ids)
        dicoms.save(scans, tmp_path / f"disc{disc}" / "DICOM")
    cohort = tmp_path / "cohort"
    ingest([tmp_path / "disc1" / "DICOM"], cohort, workspace=workspace, jobs=0)
    before = Cohort.open(cohort).scans()["scan"].tolist()
    with pytest.raises(UserError, match="same folder name from another place, with 6 files") as error:
        ingest([tmp_path / "disc2" / "DICOM"], cohort, workspace=workspace, jobs=0)
    assert "Rename this folder" in error.value.fix and Cohort.open(cohort).scans()["scan"].tolist() == before
    shutil.copytree(tmp_path / "disc1" / "DICOM", tmp_path / "moved" / "DICOM")  # with the times of the files
    ingest([tmp_path / "moved" / "DICOM"], cohort, workspace=workspace, jobs=0)
    (tmp_path / "disc2" / "DICOM").rename(tmp_path / "disc2" / "DISC2")
    ingest([tmp_path / "disc2" / "DISC2"], cohort, workspace=workspace, jobs=0)
    assert len(Cohort.open(cohort).scans()) == 2
