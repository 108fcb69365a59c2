"""DICOM: headers first (`first_pass`), then series into volumes (`series`), then pixels (`pixels`)."""

from medssl.ingest.readers.dicom.first_pass import probe, sniff
from medssl.ingest.readers.dicom.pixels import decode, pieces, read
from medssl.ingest.readers.dicom.series import plan

__all__ = ["decode", "pieces", "plan", "probe", "read", "sniff"]
