"""Finding files below a source, and telling what they are by their first bytes, never by their names alone."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from medssl.errors import SourcePath, UserError
from medssl.ingest import archives, bids, readers
from medssl.ingest.archives import Member
from medssl.ingest.identity import Keys
from medssl.ingest.opening import open_file
from medssl.ingest.records import File, Ignore, Probe, Reject

HEAD = 400  # bytes: a NIfTI-1 header has 348, a DICOM preamble 132
SCAN_ENDINGS = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz")
CLOSED_ARCHIVES = (b"7z\xbc\xaf", b"Rar!")
ARCHIVE = "archive"
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def find_files(sources: list[Path], keys: Keys) -> list[File]:
    """All files below the sources, sorted; links to folders are followed once.

    Raises:
        UserError: a source does not exist, or two sources hold files of the same name below folders of the same name.
    """
    files: dict[str, File] = {}
    for source in sources:
        if not source.exists():
            raise UserError("the source does not exist", SourcePath(source), "Check the path.")
        for path, name, status in _walk(source):
            file = File(path, source.name, name, status.st_size, status.st_mtime_ns, keys.file(source.name, name))
            if file.id in files and files[file.id].path != path:
                raise UserError(
                    "two sources have the same folder name and hold files of the same name",
                    SourcePath(source),
                    "Ingest the folder that holds them both.",
                )
            files[file.id] = file
    return sorted(files.values(), key=lambda f: (f.root, f.name))


def files_of(archive: File, members: list[Member], keys: Keys) -> list[File]:
    """The members of an archive as files of the source, named as in a folder that is called like the archive."""
    files = []
    for member in members:
        name = f"{archive.name}/{member.name}"
        key = keys.file(archive.root, name)
        files.append(File(archive.path, archive.root, name, member.size, member.state, key, member.place))
    return files


def _walk(source: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    """(path, name below the source, status) of every file."""
    if source.is_file():
        yield str(source), source.name, source.stat()
        return
    seen: set[str] = set()
    stack = [(str(source), "")]
    while stack:
        folder, prefix = stack.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as error:
            raise UserError(f"a folder of the source cannot be read ({error.strerror})", SourcePath(folder)) from None
        for entry in entries:
            name = f"{prefix}{entry.name}"
            try:
                if entry.is_dir():
                    stack.append((entry.path, f"{name}/"))
                    continue
                status = entry.stat()
            except OSError:
                status = entry.stat(follow_symlinks=False)
            yield entry.path, name, status


def sniff(file: File) -> Probe:
    """Which reader knows this file, or ARCHIVE.

    Raises:
        Ignore, Reject: it is no scan, or should be one by its name and is not.
    """
    if any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in file.name.split("/")):
        raise Ignore("hidden")
    if bids.is_sidecar(file):
        raise Ignore("bids_sidecar")
    path = Path(file.path)
    if file.member is None and not path.is_file() and (path.is_symlink() or path.exists()):
        raise Ignore("unsafe_link")  # leads nowhere, or to a pipe or device
    if file.size == 0:
        raise Reject("empty_file") if looks_like_scan(file) else Ignore("not_a_scan")
    head, unpacked = _heads(file)
    name = readers.by_content(unpacked, file.name)
    if name is not None:
        return Probe(file, name)
    if archives.is_archive(head, unpacked) and not file.name.lower().endswith(".npz"):
        return Probe(file, ARCHIVE)
    if looks_like_scan(file):
        raise Reject("wrong_content")
    raise Ignore("archive" if head.startswith(CLOSED_ARCHIVES) else "not_a_scan")


def looks_like_scan(file: File) -> bool:
    """By its name alone: enough to say that something is wrong with it, and for nothing else."""
    return file.name.lower().endswith(SCAN_ENDINGS)


def _heads(file: File) -> tuple[bytes, bytes]:
    """The first bytes, as they are and with gzip undone where that is possible.

    Raises:
        Reject: the file cannot be read.
    """
    try:
        with open_file(file) as stream:
            head = stream.read(4096)
    except OSError:
        raise Reject("unreadable") from None
    if head[:2] != archives.GZIP:
        return head[:HEAD], head[:HEAD]
    try:
        return head, zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD) or head
    except zlib.error:
        return head, head
