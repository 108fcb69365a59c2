"""The one place where files of a source are opened."""

from __future__ import annotations

import gzip
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

from medssl.ingest.records import File, Reject

GZIP = b"\x1f\x8b"


def open_file(file: File) -> BinaryIO:
    """The file's bytes, seekable, at their start. Use it in a `with` block.

    Raises:
        Reject: it cannot be opened.
    """
    try:
        return Path(file.path).open("rb")
    except OSError:
        raise Reject("unreadable") from None


def open_unzipped(file: File) -> BufferedIOBase:
    """As `open_file`, with gzip undone where the file is gzipped."""
    stream = open_file(file)
    packed = stream.read(2) == GZIP
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream, mode="rb") if packed else cast(BufferedIOBase, stream)
