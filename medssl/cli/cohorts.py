"""Commands that make cohorts and add to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.base import (
    GroupColumn,
    JsonOption,
    PatientColumn,
    ScanColumn,
    TargetOption,
    WorkspaceOption,
    answer,
    command,
)
from medssl.workspace import Workspace


@command
def ingest(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders, files or archives (zip, tar): DICOM, NIfTI, PNG, JPEG, TIFF, MedMNIST .npz."),
    ],
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort that is made or added to.")],
    labels: Annotated[Path | None, typer.Option(help="CSV or TSV with labels.")] = None,
    scan_column: ScanColumn = None,
    patient_column: PatientColumn = None,
    group_column: GroupColumn = None,
    target: TargetOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Reject every scan that has a warning.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a CPU.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn scans into a cohort; every file is accepted, rejected with a reason, or ignored with a reason."""
    from medssl.ingest import ingest as run_ingest

    columns = label_columns(labels, scan_column, patient_column, group_column, target) if labels else None
    report = run_ingest(sources, cohort, workspace=Workspace(workspace), labels=columns, jobs=jobs, strict=strict)
    answer(report.as_json(), as_json, "\n".join(report.lines(sys.stdout.isatty())))


@command
def label(
    cohort: Annotated[Path, typer.Argument(help="Folder of a cohort.")],
    labels: Annotated[Path, typer.Argument(help="CSV or TSV with labels.")],
    scan_column: ScanColumn = None,
    patient_column: PatientColumn = None,
    group_column: GroupColumn = None,
    target: TargetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add labels to a cohort."""
    from medssl.cohort import Cohort
    from medssl.ingest import add_labels

    columns = label_columns(labels, scan_column, patient_column, group_column, target)
    counts = add_labels(Cohort.open(cohort), columns, Workspace(workspace))
    answer(counts, as_json, "\n".join(f"{key}: {value}" for key, value in counts.items()))


@command
def export(
    cohort: Annotated[Path, typer.Argument(help="Folder of a cohort.")],
    out: Annotated[Path, typer.Argument(help="New or empty folder, or the one of an earlier export that goes on.")],
    format: Annotated[str, typer.Option(help="nifti: .nii.gz, and PNG or TIFF for images without geometry.")] = "nifti",
    as_json: JsonOption = False,
) -> None:
    """Write the scans of a cohort as NIfTI files, masks beside them, with an index."""
    from medssl.errors import unknown
    from medssl.ingest import export_nifti

    if format != "nifti":
        raise unknown("format", format, ["nifti"], "--format")
    report = export_nifti(cohort, out)
    text = "{scans} scans in {folder}: {written} written, {kept} kept, {removed} old files removed".format(**report)
    if report["not_written"]:
        text += f"; {report['not_written']} not written (colour of more than 8 bits)"
    answer(report, as_json, text)


@command
def crops(
    source: Annotated[Path, typer.Argument(help="Folder of photographs with boxes in VOC XML.")],
    out: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/sources/SOURCE_crops.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Pixels a side of a crop.")] = 128,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut every box out of photographs: pictures of single cells, say, with labels.csv, to be ingested."""
    from medssl.ingest.crops import cut_crops

    done = cut_crops(source, out or Workspace(workspace).path / "sources" / f"{source.resolve().name}_crops", size)
    each = ", ".join(f"{count} {name}" for name, count in done["labels"].items())
    text = f"{done['crops']} crops of {done['photographs']} photographs in {done['folder']}: {each}"
    if done["left_out"]:
        text += f"; {done['left_out']} boxes without an area left out"
    answer(done, as_json, text)


def label_columns(file: Path, scan: str | None, patient: str | None, group: str | None, target: list[str] | None):
    from medssl.config import LabelColumns

    return LabelColumns(file=str(file), scan=scan, patient=patient, group=group, targets=target or [])
