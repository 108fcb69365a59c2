"""Reading from a disk that may fail: a bad disk is no damaged file, and must not make a run reject what is good."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.records import Reject

FAILURES = frozenset(
    {
        errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE, errno.EMFILE,
    }
)  # fmt: skip

_READ = "the source cannot be read ({})"


class SourceFailed(BaseException):
    """The disk or network under a source failed, which ends the run: (what, to do).

    Not an `Exception`, so that no parser's `except` takes it for a bad file.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix or "Check the disk or network, then run the same command again: it goes on.")


@contextmanager
def ends_cleanly() -> Iterator[None]:
    """Around whatever reads a source: its failure is said as any other error.

    Raises:
        MedsslError: the disk or network failed.
    """
    try:
        yield
    except SourceFailed as error:
        what, fix = error.args
        raise MedsslError(what, "", fix) from None


def failed(error: OSError, code: str = "unreadable") -> Reject | SourceFailed:
    """What to raise for an error of the system: the end of the run, or the file's rejection (as without permission)."""
    if error.errno == errno.ENOENT:  # it was there a moment ago
        fix = "Is the disk still there? Run the same command again: it goes on."
        return SourceFailed("a file of the source went away while it was read", fix)
    if error.errno in FAILURES:
        return SourceFailed(_READ.format(error.strerror))
    return Reject(code)


class _Raw(io.FileIO):
    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise _told(error) from None

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise _told(error) from None


def _told(error: OSError) -> BaseException:
    return SourceFailed(_READ.format(error.strerror)) if error.errno in FAILURES else error


class Disk(io.BufferedReader):
    """A file opened for reading.

    Raises:
        SourceFailed: when the disk fails while it is read.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        super().__init__(_Raw(path))
