"""The one place where files of a source are opened, whether they lie in a folder or in an archive."""

from __future__ import annotations

import gzip
from io import BufferedIOBase
from typing import BinaryIO, cast

from medssl.ingest.archives import GZIP, open_member
from medssl.ingest.disk import Disk, failed
from medssl.ingest.records import File


def open_file(file: File) -> BinaryIO:
    """The file's bytes, seekable, at their start. Use it in a `with` block.

    Raises:
        Reject: it cannot be opened.
        SourceFailed: the disk fails.
    """
    if file.member is not None:
        return open_member(file.path, file.member, file.size)
    try:
        return Disk(file.path)
    except OSError as error:
        raise failed(error) from None


def open_unzipped(file: File) -> BufferedIOBase:
    """As `open_file`, with gzip undone where the file is gzipped."""
    stream = open_file(file)
    packed = stream.read(2) == GZIP
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream, mode="rb") if packed else cast(BufferedIOBase, stream)
