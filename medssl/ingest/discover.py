"""Finding files below a source, and telling what they are by their first bytes, never by their names alone."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medssl.errors import SourcePath, UserError
from medssl.ingest import readers
from medssl.ingest.identity import Keys
from medssl.ingest.opening import GZIP, open_file
from medssl.ingest.records import File, Ignore, Probe, Reject

HEAD = 400  # bytes: a NIfTI-1 header has 348, a DICOM preamble 132
SCAN_ENDINGS = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz")
ARCHIVES = (b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def find_files(sources: list[Path], keys: Keys) -> list[File]:
    """All files below the sources, sorted; links to folders are followed once.

    Raises:
        UserError: a source does not exist, or two sources hold files of the same name below folders of the same name.
    """
    files: dict[str, File] = {}
    for source in sources:
        if not source.exists():
            raise UserError("the source does not exist", SourcePath(source), "Check the path, or set MEDSSL_DATA.")
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
    """Which reader knows this file.

    Raises:
        Ignore, Reject: it is no scan, or should be one by its name and is not.
    """
    path = PurePosixPath(file.name)
    if any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in path.parts):
        raise Ignore("hidden")
    looks_like_scan = file.name.lower().endswith(SCAN_ENDINGS)
    if file.size == 0:
        raise Reject("empty_file") if looks_like_scan else Ignore("not_a_scan")
    head = read_head(file)
    name = readers.by_content(head, file.name)
    if name is not None:
        return Probe(file, name)
    if looks_like_scan:
        raise Reject("wrong_content")
    raise Ignore("archive" if head.startswith((*ARCHIVES, GZIP)) else "not_a_scan")


def read_head(file: File) -> bytes:
    """The first bytes; those of a gzip file decompressed, with its magic kept where that fails.

    Raises:
        Reject: the file cannot be read.
        Ignore: a link that leads nowhere, a pipe or a device.
    """
    if not Path(file.path).is_file():
        raise Ignore("unsafe_link")
    try:
        with open_file(file) as stream:
            head = stream.read(4096 if file.name.lower().endswith(".gz") else HEAD)
    except OSError:
        raise Reject("unreadable") from None
    if head[:2] != GZIP:
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD) or head
    except zlib.error:
        return head
