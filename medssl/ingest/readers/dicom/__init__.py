"""DICOM: headers first (`header`), then series into volumes (`series`), then pixels (`pixels`)."""

from medssl.ingest.readers.dicom.header import probe, sniff
from medssl.ingest.readers.dicom.pixels import read
from medssl.ingest.readers.dicom.series import plan

__all__ = ["plan", "probe", "read", "sniff"]
