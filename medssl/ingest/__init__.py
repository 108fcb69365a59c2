"""Scan files -> Cohort."""

from medssl.ingest.labels import add_labels
from medssl.ingest.run import IngestReport, ingest, is_complete

__all__ = ["IngestReport", "add_labels", "ingest", "is_complete"]
