"""DICOM Segmentation objects (PS3.3 A.51, C.8.20) -> label masks on the grid of the scan that they refer to."""

from __future__ import annotations

from typing import Any

from medssl.ingest.records import File, Ignore


def is_one(sop_class: str) -> bool:
    return sop_class.startswith("1.2.840.10008.5.1.4.1.1.66.4") or sop_class == "1.2.840.10008.5.1.4.1.1.66.7"


def probe(source: File) -> Any:
    raise Ignore("derived_object")
