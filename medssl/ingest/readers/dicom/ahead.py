"""Decoding ahead: the images of one compressed series by several processes, which leave stored values in files.

Codecs keep the interpreter to themselves while they decode, so that threads would not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from medssl.ingest.readers.dicom.series import Payload
from medssl.ingest.records import Job

LEAST = 8  # images a part
Image = tuple[int, np.ndarray, np.ndarray | None]  # index of the header, stored values, values after a Modality LUT


def parts(job: Job, count: int) -> list[Job]:
    """The job's images in up to `count` parts to be decoded one by one; none where that does not pay."""
    from medssl.ingest.readers.dicom.pixels import is_direct

    payload: Payload = job.payload
    headers, places = payload.headers, payload.places
    count = min(count, len(headers) // LEAST)
    if count < 2 or headers[0].tiles or all(map(is_direct, headers)):
        return []
    bounds = [len(headers) * i // count for i in range(count + 1)]
    return [
        replace(job, payload=replace(payload, headers=headers[a:b], places=places[a:b], first=a))
        for a, b in pairwise(bounds)
    ]


def decode(part: Job, path: Path) -> None:
    """Leave the images of a part in a file.

    Raises:
        Reject: a file that cannot be decoded.
        OSError: the file cannot be written.
    """
    from medssl.ingest.readers.dicom.pixels import images

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for k, stored, table in images(part.files, part.payload):
            np.save(file, np.array([part.payload.first + k, table is not None]))
            for array in (stored, table) if table is not None else (stored,):
                np.save(file, array, allow_pickle=False)


def decoded(job: Job, paths: list[Path]) -> Job:
    """The job, made to take its images from these files."""
    return replace(job, payload=replace(job.payload, decoded=[str(path) for path in paths]))


def load(paths: list[str]) -> Iterator[Image]:
    """The images that `decode` left."""
    for path in paths:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            while file.tell() < size:
                k, has_table = np.load(file, allow_pickle=False)
                stored = np.load(file, allow_pickle=False)
                yield int(k), stored, np.load(file, allow_pickle=False) if has_table else None
