"""Commands between keyed ids and patients: back to the originals, and out without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.base import JsonOption, WorkspaceOption, answer, command
from medssl.workspace import Workspace


@command
def link(
    ids: Annotated[
        Path, typer.Argument(metavar="LIST", help="Text or CSV that holds ids of scans, files or patients.")
    ],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="What was ingested.")],
    out: Annotated[Path, typer.Option(help="CSV that is written, for its owner only; not in a workspace or cohort.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the original patients and files of a list of ids, by reading the source's headers again."""
    from medssl.ingest.privacy.link import link as find_originals

    done = find_originals(ids, sources, out, Workspace(workspace))
    text = f"{done['found']} of {done['ids']} ids found, {done['rows']} files: {done['out']} (it names patients)"
    answer(done, as_json, "\n".join([text, *(f"  not in the source: {i}" for i in done["missing"])]))


@command
def deidentify(
    source: Annotated[Path, typer.Argument(help="Folder with DICOM images.")],
    out: Annotated[Path, typer.Argument(help="New or empty folder.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write DICOM images again without what identifies in their headers (PS3.15 Basic Profile, dates shifted).

    Text that is burned into pixels, and faces, are NOT removed. Files that are no DICOM images are not copied.
    """
    from medssl.ingest.privacy.deidentify import deidentify as run_deidentify

    done = run_deidentify(source, out, Workspace(workspace))
    answer(done.as_json(), as_json, "\n".join(done.lines()))
