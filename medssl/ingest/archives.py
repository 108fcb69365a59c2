"""Archives, read in place: zip, and tar with or without gzip, bzip2 or xz.

An archive counts as a folder: its members are the files of the source. Members are read where they lie and are never
unpacked under their names, so that no name leads anywhere. A compressed tar cannot be entered in the middle: each
process undoes the compression once, into a temporary file that has no name and goes with the process.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from medssl.ingest.disk import Disk, SourceFailed, failed
from medssl.ingest.records import Ignore, Reject

ZIP, GZIP, BZIP2, XZ = b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
MAX_MEMBERS = 1_000_000
MAX_BYTES = 4 << 40  # of all members
MAX_RATIO = 200  # of all members to the archive, where they are more than
HARMLESS = 1 << 30  # bytes
IN_MEMORY = 64 << 20  # a member of a zip up to this size is undone whole
DOCUMENTS = ("[Content_Types].xml", "META-INF/MANIFEST.MF", "mimetype", "AndroidManifest.xml")
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError)
_OPENERS: dict[bytes, Callable[..., Any]] = {GZIP: gzip.open, BZIP2: bz2.open, XZ: lzma.open}


class Member(NamedTuple):
    """`state`: what changes with the content (CRC in a zip, mtime in ns in a tar); `place`: where it is found."""

    name: str
    size: int
    state: int
    place: int


def is_archive(head: bytes, unpacked: bytes) -> bool:
    """By the first bytes, and by those behind gzip: zip, tar, or what may be a tar behind bzip2 or xz."""
    return head.startswith((ZIP, BZIP2, XZ)) or unpacked[257:262] == b"ustar"


def members(path: str) -> list[Member]:
    """The files in an archive, under names that lead nowhere; folders, links and devices do not count.

    Raises:
        Reject: damaged, encrypted, or more than can be real.
        Ignore: no archive of files, but a document or a program in a zip, or a single compressed file.
    """
    try:
        with Disk(path) as stream:
            found = _of_zip(path, stream) if stream.read(4) == ZIP else _of_tar(path)
    except DAMAGE:
        raise Reject("archive_damaged") from None
    except OSError as error:
        raise failed(error, "archive_damaged") from None
    by_name = {member.name: member for member in found if member.name}  # of two with one name, the later holds
    return [by_name[name] for name in sorted(by_name)]


def open_member(path: str, place: int, size: int) -> BinaryIO:
    """The member's bytes, seekable, at their start.

    Raises:
        Reject: damaged.
    """
    try:
        state = _state(path)
        with Disk(path) as stream:
            if stream.read(4) != ZIP:
                return cast(BinaryIO, io.BufferedReader(_Window(_plain(state), place, size)))
        if size <= IN_MEMORY:
            return io.BytesIO(_member_bytes(state, place))
        archive = _zip(state)
        return cast(BinaryIO, archive.open(archive.infolist()[place]))
    except (*DAMAGE, RuntimeError):
        raise Reject("unreadable") from None
    except OSError as error:
        raise failed(error) from None


def _of_zip(path: str, stream: BinaryIO) -> list[Member]:
    with zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
        if any(info.filename in DOCUMENTS for info in infos[:50]):
            raise Ignore("not_a_scan")
        if any(info.flag_bits & 1 for info in infos):
            raise Reject("archive_encrypted")
        _check(len(infos), sum(info.file_size for info in infos), _state(path)[2])
        return [
            Member(_harmless(info.filename), info.file_size, info.CRC, place)
            for place, info in enumerate(infos)
            if not info.is_dir()
        ]


def _of_tar(path: str) -> list[Member]:
    state = _state(path)
    plain = _plain(state)
    plain.seek(257)
    if plain.read(5) != b"ustar":
        raise Ignore("archive")
    plain.seek(0)
    found: list[Member] = []
    total = 0
    with tarfile.open(fileobj=plain, mode="r:") as archive:
        for info in archive:
            if info.isreg() and not info.issparse():
                found.append(Member(_harmless(info.name), info.size, int(info.mtime * 1e9), info.offset_data))
                total += info.size
                _check(len(found), total, state[2])
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        plain.seek(archive.offset)
        if plain.read(512) != bytes(512):  # it must end with an empty block
            raise Reject("archive_damaged")
    return found


def _check(count: int, total: int, size: int) -> None:
    if count > MAX_MEMBERS or total > MAX_BYTES or total > max(HARMLESS, MAX_RATIO * size):
        raise Reject("archive_bomb")


def _state(path: str) -> tuple[str, int, int]:
    status = Path(path).stat()
    return path, status.st_mtime_ns, status.st_size


def _harmless(name: str) -> str:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("/", "..", "."))


@lru_cache(maxsize=2)
def _zip(state: tuple[str, int, int]) -> zipfile.ZipFile:
    return zipfile.ZipFile(Disk(state[0]))


@lru_cache(maxsize=1)  # a file is looked at and then its header read
def _member_bytes(state: tuple[str, int, int], place: int) -> bytes:
    archive = _zip(state)
    return archive.read(archive.infolist()[place])


@lru_cache(maxsize=2)
def _plain(state: tuple[str, int, int]) -> BinaryIO:
    """The tar without compression.

    Raises:
        Reject: a bomb.
        SourceFailed: the place for temporary files is full.
    """
    path, _, size = state
    packed = Disk(path)
    head = packed.read(6)
    packed.seek(0)
    opener = next((o for magic, o in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        return packed
    fresh = tempfile.TemporaryFile(prefix="medssl-")  # noqa: SIM115  it has no name and goes with the process
    try:
        total = 0
        with packed, opener(packed) as stream:
            while block := stream.read(1 << 20):
                total += len(block)
                _check(0, total, size)
                _write(fresh, block)
    except BaseException:
        fresh.close()
        raise
    fresh.flush()
    return cast(BinaryIO, fresh)


def _write(fresh: Any, block: bytes) -> None:
    try:
        fresh.write(block)
    except OSError as error:
        fix = "Make room where TMPDIR points, then run the same command again: it goes on."
        raise SourceFailed(f"an archive cannot be unpacked to a temporary file ({error.strerror})", fix) from None


class _Window(io.RawIOBase):
    """A part of a file, as a file of its own."""

    name = ""  # pydicom asks for it

    def __init__(self, whole: BinaryIO, start: int, size: int) -> None:
        self._whole, self._start, self._size, self._at = whole, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._whole.seek(self._start + self._at)
        read = self._whole.readinto(view[:count])  # type: ignore[attr-defined]
        self._at += read
        return int(read)
