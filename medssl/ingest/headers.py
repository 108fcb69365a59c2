"""The first pass: what every file is, by its first bytes, and the headers of those that are scans; in processes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from medssl.ingest import archives, discover, readers
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys
from medssl.ingest.pool import map_chunks
from medssl.ingest.records import File, Ignore, Probe, Reject
from medssl.progress import bar

CHUNK = 64  # files
Verdict = tuple[str, Any]  # ("probe", (reader, header)), ("ignored", code), ("rejected", code) or ("archive", None)


def read_headers(found: Iterable[File], keys: Keys, fates: Fates, jobs: int) -> list[Probe]:
    """What the scans among the files are, sorted by name; a verdict on every other file goes to `fates`.

    Archives are entered: each of them counts as a folder, and as one file where it holds no scan.
    """
    probes: list[Probe] = []
    packed: list[File] = []
    for file, (status, value) in _look(list(found), jobs):
        if status == discover.ARCHIVE:
            packed.append(file)
        else:
            _enter(probes, fates, file, status, value)
    inside: dict[str, tuple[File, list[File]]] = {}
    for file, (status, value) in _list(packed, jobs):
        if status == discover.ARCHIVE:
            inside[file.path] = (file, discover.files_of(file, value, keys))
        else:
            _enter(probes, fates, file, status, value)
    verdicts: dict[str, list[tuple[File, Verdict]]] = {path: [] for path in inside}
    for file, verdict in _look([file for _, files in inside.values() for file in files], jobs):
        verdicts[file.path].append((file, verdict))
    for path, (archive, files) in inside.items():
        if any(status in ("probe", "rejected") for _, (status, _) in verdicts[path]):
            fates.open(archive, files)
            for file, (status, value) in verdicts[path]:
                nested = status == discover.ARCHIVE
                _enter(probes, fates, file, *(("ignored", "nested_archive") if nested else (status, value)))
        elif discover.looks_like_scan(archive):
            fates.reject([archive], "wrong_content")
        else:
            fates.ignore(archive, "archive_without_scans")
    probes.sort(key=lambda probe: (probe.file.root, probe.file.name))
    return probes


def _enter(probes: list[Probe], fates: Fates, file: File, status: str, value: Any) -> None:
    if status == "probe":
        probes.append(Probe(file, *value))
    elif status == "ignored":
        fates.ignore(file, value)
    else:
        fates.reject([file], value)


def _look(files: list[File], jobs: int) -> Iterable[tuple[File, Verdict]]:
    seen: dict[Any, Any] = {}
    numbered = list(enumerate(files))
    size = max(1, min(CHUNK, -(-len(files) // 8)))
    with bar("reading headers", len(files)) as progress:
        for answers in map_chunks(_look_chunk, numbered, size, jobs, _lost, _bytes):
            progress.advance(len(answers))
            for number, (status, value) in answers:
                if status == "probe":
                    for header in value[1] if isinstance(value[1], list) else [value[1]]:
                        _share(header, seen)
                yield files[number], (status, value)


def _list(packed: list[File], jobs: int) -> Iterable[tuple[File, Verdict]]:
    for answers in map_chunks(_list_chunk, list(enumerate(packed)), 1, jobs, _lost, _bytes):
        yield from ((packed[number], verdict) for number, verdict in answers)


def _look_chunk(files: Sequence[tuple[int, File]]) -> list[tuple[int, Verdict]]:
    return [(number, _verdict(_probe, file)) for number, file in files]


def _list_chunk(files: Sequence[tuple[int, File]]) -> list[tuple[int, Verdict]]:
    return [(number, _verdict(_members, file)) for number, file in files]


def _verdict(ask: Any, file: File) -> Verdict:
    try:
        return ask(file)
    except Ignore as verdict:
        return "ignored", verdict.code
    except Reject as verdict:
        return "rejected", verdict.code
    except MemoryError:
        return "rejected", "out_of_memory"
    except Exception:  # whatever a parser stumbles over in a damaged file
        return "rejected", "unreadable"


def _probe(file: File) -> Verdict:
    name = discover.sniff(file).reader
    if name == discover.ARCHIVE:
        return name, None
    reader = readers.reader(name)
    return "probe", (name, reader.probe(file) if hasattr(reader, "probe") else None)


def _members(file: File) -> Verdict:
    return discover.ARCHIVE, archives.members(file.path)


def _lost(file: tuple[int, File], code: str) -> list[tuple[int, Verdict]]:
    return [(file[0], ("rejected", code))]


def _bytes(files: Sequence[tuple[int, File]]) -> int:
    """That may have to be read: of archives as a whole, for their members."""
    packed = {file.path for _, file in files if file.member is not None}
    return sum(file.size for _, file in files if file.member is None) + sum(map(_size, packed))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # it went away; that shows when it is opened
        return 0


def _share(header: Any, seen: dict[Any, Any]) -> None:
    """Make a header of texts and numbers that were seen before: a hundred thousand headers say much the same."""
    for name in getattr(type(header), "__slots__", ()):
        part = getattr(header, name)
        if type(part) is str:
            key: Any = part
        elif type(part) is tuple and part and type(part[0]) is float:
            key = array("d", part).tobytes()  # which tells 0.0 from -0.0
        elif type(part) is tuple and part and type(part[0]) is str:
            key = part
        else:
            continue
        if (known := seen.setdefault(key, part)) is not part:
            object.__setattr__(header, name, known)
