"""One file a format. A reader is a module with

    sniff(head, name) -> bool         is this file's format mine? `head` are its first bytes, gzip already undone
    probe(file) -> header             first pass, headers only; only where the module has it; may raise Reject, Ignore
    plan(probes, keys) -> Plan        which files make which scans
    read(job) -> Scan                 second pass, in a process of its own; may raise Reject

A reader opens files with `medssl.ingest.opening.open_file` and knows no paths.

To add a format, write such a module and name it in READERS.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

READERS = ("dicom", "nifti", "image", "medmnist")


def reader(name: str) -> Any:
    return import_module(f"{__name__}.{name}")


def by_content(head: bytes, name: str) -> str | None:
    """The reader that knows a file with these first bytes, or None."""
    return next((r for r in READERS if reader(r).sniff(head, name)), None)
