"""Decoding the images of one scan in several processes, where there are fewer scans than processes can read.

The codecs of DICOM hold Python's lock, so threads do not help. Each process leaves some decoded images in the cohort
under a temporary name; reading the scan takes them from there. Nothing is decided here: where some images could not be
decoded, the scan is read as if nothing had been tried, and gets its verdict then.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl.cohort.arrays import array_path
from medssl.ingest import readers
from medssl.ingest.pool import map_chunks
from medssl.ingest.records import Job, Reject
from medssl.progress import bar


class Piece(NamedTuple):
    """A job that holds only some of the images of a scan, and the index of the first of them there."""

    job: Job
    start: int


def decode_ahead(todo: list[Job], folder: Path, jobs: int) -> None:
    """Leave decoded images of those jobs that are worth it, and tell the jobs where they are."""
    if jobs < 2 or len(todo) >= 2 * jobs:
        return
    pieces = [Piece(*piece) for job in todo for piece in _pieces_of(job)]
    found: dict[str, dict[int, str]] = defaultdict(dict)
    with bar("decoding", len(pieces)) as progress:
        for scan, start, path in map_chunks(partial(_decode, str(folder)), pieces, 1, jobs, _lost, _bytes):
            found[scan][start] = path
            progress.advance(1)
    for job in todo:
        paths = found.get(job.scan, {})
        if not paths:
            continue
        job.payload.decoded = [paths[start] for start in sorted(paths) if paths[start]]
        if not all(paths.values()):
            forget(job)


def forget(job: Job) -> None:
    """Delete what was decoded ahead for a scan that has been read."""
    for path in getattr(job.payload, "decoded", ()):
        Path(path).unlink(missing_ok=True)
        job.payload.decoded = []


def _pieces_of(job: Job) -> list[tuple[Job, int]]:
    reader = readers.reader(job.reader)
    return reader.pieces(job) if hasattr(reader, "pieces") else []


def _decode(folder: str, pieces: Sequence[Piece]) -> tuple[str, int, str]:
    """(scan, index of the first image, path); without a path where the images could not be decoded or kept."""
    (piece,) = pieces
    place = array_path(Path(folder), piece.job.scan)
    path = place.with_name(f".{place.name}.{piece.start}.{os.getpid()}")  # as `remove_unfinished` knows them
    try:
        images: list[np.ndarray] = readers.reader(piece.job.reader).decode(piece.job)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            about = {"descr": images[0].dtype.str, "fortran_order": False, "shape": (len(images), *images[0].shape)}
            np.lib.format.write_array_header_1_0(file, about)
            for image in images:
                image.tofile(file)
    except (Reject, OSError, MemoryError, ValueError):
        path.unlink(missing_ok=True)
        return piece.job.scan, piece.start, ""
    return piece.job.scan, piece.start, str(path)


def _lost(piece: Piece, code: str) -> tuple[str, int, str]:
    return piece.job.scan, piece.start, ""


def _bytes(pieces: Sequence[Piece]) -> int:
    return sum(file.size for piece in pieces for file in piece.job.files)
