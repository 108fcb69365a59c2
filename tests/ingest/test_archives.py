"""Archives: read in place as if they were folders, and refused whole where they cannot be trusted."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import dicoms
import numpy as np
import pytest
from PIL import Image
from test_runs import contents, pictures

from medssl.cohort import Cohort
from medssl.errors import UserError
from medssl.ingest import archives, ingest
from medssl.ingest.opening import open_file
from medssl.ingest.records import File, Ignore, Reject


def packed(folder: Path, archive: Path, prefix: str = "") -> Path:
    """An archive of all files in a folder; its kind is in the name's ending."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for file in files:
                out.write(file, f"{prefix}{file.relative_to(folder)}")
        return archive
    mode = {".tar": "w:", ".tgz": "w:gz", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[archive.suffix]
    with tarfile.open(archive, mode) as out:
        for file in files:
            out.add(file, f"{prefix}{file.relative_to(folder)}")
    return archive


@pytest.fixture
def folder(tmp_path) -> Path:
    """A series, three pictures and a text."""
    folder = tmp_path / "scans"
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL), folder / "exam" / "series")
    pictures(folder / "pictures", 3)
    (folder / "report.txt").write_text("nothing")
    return folder


@pytest.mark.parametrize(
    ("ending", "prefix"),
    [
        *((ending, "") for ending in ("zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "dat.gz")),
        *(("tgz", prefix) for prefix in ("./", "../../../../", "/")),
        ("zip", "../../../../"),
    ],
)
def test_an_archive_counts_as_a_folder(folder, tmp_path, workspace, ending, prefix) -> None:
    (tmp_path / "source").mkdir()
    packed(folder, tmp_path / "source" / f"a.{ending}", prefix)
    plain = ingest([folder], tmp_path / "plain", workspace=workspace, jobs=0)
    report = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert (report.found, report.accepted, report.rejected, report.ignored) == (10, 9, 0, 1)
    assert report.ignored_as == plain.ignored_as == {"not_a_scan": 1}
    assert Cohort.open(tmp_path / "cohort").hash == Cohort.open(tmp_path / "plain").hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort", "plain", "scans", "source", "workspace"]


def test_an_archive_may_be_the_source_and_is_read_in_processes(folder, tmp_path, workspace) -> None:
    for ending in ("zip", "tgz"):
        archive = packed(folder, tmp_path / f"all.{ending}")
        report = ingest([archive], tmp_path / ending, workspace=workspace, jobs=2)
        assert (report.found, report.scans) == (10, 4)


def test_an_unchanged_member_is_not_read_again_though_the_archive_was_written_anew(
    folder, tmp_path, workspace, monkeypatch
) -> None:
    from medssl.ingest.readers import image

    archive = packed(folder, tmp_path / "all.zip")
    ingest([archive], tmp_path / "cohort", workspace=workspace, jobs=0)
    before = contents(tmp_path / "cohort")
    read, reads = image.read, []
    monkeypatch.setattr(image, "read", lambda job: reads.append(job) or read(job))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "pictures" / "0001.png")
    pictures(folder / "more", 1, size=9)
    packed(folder, archive)
    os.utime(archive, (1, 1))
    report = ingest([archive], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert len(reads) == 2 and report.scans == 5
    after = contents(tmp_path / "cohort")
    assert sum(after.get(name) == data for name, data in before.items()) == 3


def refused(data: bytes, tmp_path, name: str = "a.zip") -> str:
    (tmp_path / name).write_bytes(data)
    with pytest.raises((Reject, Ignore)) as verdict:
        archives.members(str(tmp_path / name))
    return str(verdict.value.code)


def a_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def a_tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_bombs_are_refused_before_they_go_off(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "HARMLESS", 1 << 20)
    assert refused(a_zip({"a.dcm": bytes(4 << 20)}), tmp_path) == "archive_bomb"
    assert refused(a_tar({"a.dcm": bytes(4 << 20)}), tmp_path, "a.tgz") == "archive_bomb"
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    assert refused(a_zip({str(i): b"1" for i in range(6)}), tmp_path) == "archive_bomb"
    assert refused(a_tar({str(i): b"1" for i in range(6)}, "w:"), tmp_path, "a.tar") == "archive_bomb"


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar", "a.tar.xz"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
def test_damaged_archives_are_one_rejected_file(tmp_path, workspace, name, part) -> None:
    random = {f"{i}.dcm": np.random.default_rng(i).bytes(3000) for i in range(4)}
    modes = {"a.tgz": "w:gz", "a.tar": "w:", "a.tar.xz": "w:xz"}
    data = a_zip(random) if name == "a.zip" else a_tar(random, modes[name])
    (tmp_path / "source").mkdir()
    pictures(tmp_path / "source", 1)
    (tmp_path / "source" / name).write_bytes(data[: int(part * len(data))] if name != "a.tar" else data[:7000])
    report = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert (report.found, report.accepted, report.rejected) == (2, 1, 1)
    assert "archive_damaged" in {f["code"] for f in report.findings}


def test_a_member_whose_bytes_are_damaged_is_rejected_alone(tmp_path, workspace) -> None:
    pictures(tmp_path / "scans", 3)
    files = {f"{i}.png": (tmp_path / "scans" / f"000{i}.png").read_bytes() for i in range(3)}
    data = bytearray(a_zip(files, zipfile.ZIP_STORED))
    data[data.index(files["1.png"]) + 500] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    report = ingest([tmp_path / "a.zip"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert (report.found, report.accepted, report.rejected) == (3, 2, 1)


def test_encrypted_archives_and_documents(tmp_path) -> None:
    data = bytearray(a_zip({"a.dcm": b"x"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    assert refused(bytes(data), tmp_path) == "archive_encrypted"
    assert refused(a_zip({"[Content_Types].xml": b"", "word/media/scan.png": b"x"}), tmp_path) == "not_a_scan"
    assert refused(a_zip({"META-INF/MANIFEST.MF": b""}), tmp_path) == "not_a_scan"
    assert refused(b"BZh91AY&SY" + bytes(100), tmp_path, "a.bz2") == "archive_damaged"


def test_archives_without_scans_and_archives_in_archives(tmp_path, workspace) -> None:
    pictures(tmp_path / "source", 1)
    png = (tmp_path / "source" / "0000.png").read_bytes()
    inner = a_zip({"b.png": png})
    (tmp_path / "source" / "letters.zip").write_bytes(a_zip({"a.txt": b"Dear", "b.txt": b"Jane"}))
    (tmp_path / "source" / "only_inner.zip").write_bytes(a_zip({"inner.zip": inner}))
    (tmp_path / "source" / "both.tar").write_bytes(a_tar({"inner.zip": inner, "c.png": png}, "w:"))
    (tmp_path / "source" / "scan.dcm").write_bytes(a_zip({"a.txt": b"Dear"}))
    report = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert (report.found, report.accepted, report.rejected, report.ignored) == (6, 2, 1, 3)
    assert report.ignored_as == {"archive_without_scans": 2, "nested_archive": 1}
    assert len(Cohort.open(tmp_path / "cohort").files()) == 6


def test_an_archive_that_is_mended_becomes_a_folder(folder, tmp_path, workspace) -> None:
    pictures(tmp_path / "source", 1)
    archive = packed(folder, tmp_path / "source" / "a.tgz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-200])
    first = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    archive.write_bytes(whole)
    second = ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert (first.found, first.rejected, second.found, second.rejected) == (2, 1, 11, 0)
    assert len(Cohort.open(tmp_path / "cohort").files()) == 11
    assert "archive_damaged" not in set(Cohort.open(tmp_path / "cohort").findings()["code"])


def test_members_can_be_read_in_any_order(tmp_path) -> None:
    files = {f"{i}.bin": np.random.default_rng(i).bytes(9000 + i) for i in range(5)}
    for name, data in (("a.zip", a_zip(files)), ("a.tar", a_tar(files, "w:")), ("a.tgz", a_tar(files))):
        path = tmp_path / name
        path.write_bytes(data)
        for member in reversed(archives.members(str(path))):
            file = File(str(path), "root", member.name, member.size, member.state, "f0", member.place)
            with open_file(file) as stream:
                stream.seek(-10, 2)
                assert stream.read() == files[member.name][-10:]
                stream.seek(100)
                assert stream.read(50) == files[member.name][100:150]
                stream.seek(0)
                assert stream.read() == files[member.name]


def test_no_scan_anywhere(tmp_path, workspace) -> None:
    (tmp_path / "a.zip").write_bytes(a_zip({"a.txt": b"Dear"}))
    with pytest.raises(UserError, match="none of 1 files is a scan"):
        ingest([tmp_path / "a.zip"], tmp_path / "cohort", workspace=workspace, jobs=0)


def test_defaced_t1_is_one_volume_out_of_its_archive(shared_data, tmp_path, workspace) -> None:
    source = shared_data / "dicom_series" / "datalad_T1"
    report = ingest([source], tmp_path / "cohort", workspace=workspace)
    assert (report.scans, report.accepted, report.rejected) == (1, 192, 0)
    assert sorted(Cohort.open(tmp_path / "cohort").scans()["shape"][0]) == [192, 274, 384]


def test_gantry_tilt_is_two_scans_out_of_their_archive(shared_data, tmp_path, workspace) -> None:
    source = shared_data / "dicom_series" / "GE_gantry_tilt_CT"
    report = ingest([source], tmp_path / "cohort", workspace=workspace)
    assert (report.scans, report.accepted, report.rejected) == (2, 28, 0)
    assert [s[0] for s in Cohort.open(tmp_path / "cohort").scans()["shape"]] == [14, 14]
