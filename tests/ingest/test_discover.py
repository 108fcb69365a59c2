"""Opening and telling files: what the disk does is told from what a file is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from test_runs import pictures

from medssl.cohort import Cohort
from medssl.errors import MedsslError
from medssl.ingest import discover, disk, ingest
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
