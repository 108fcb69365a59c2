"""Scan files -> Cohort."""

from medssl.ingest.export import export_nifti
from medssl.ingest.labels import add_labels
from medssl.ingest.report import IngestReport
from medssl.ingest.run import ingest, is_complete

__all__ = ["IngestReport", "add_labels", "export_nifti", "ingest", "is_complete"]
