"""Scan files -> Cohort."""

from medssl.ingest.labels import add_labels
from medssl.ingest.run import IngestReport, ingest

__all__ = ["IngestReport", "add_labels", "ingest"]
