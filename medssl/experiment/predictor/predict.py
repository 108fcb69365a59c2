"""Run a predictor on new scans and write what it says: `scores.csv`, `patients.csv`, `findings.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.errors import UserError
from medssl.experiment.predictor.predictor import Predictor
from medssl.experiment.predictor.scans import opened
from medssl.workspace import Workspace, write_json, write_text

FILES = ("scores.csv", "patients.csv", "findings.json")


def predict(
    predictor: str | Path | Predictor,
    scans: str | Path | Sequence[str | Path],
    out: str | Path,
    workspace: Workspace | None = None,
) -> dict[str, Any]:
    """Score scans and write three files into `out`; files of an earlier run there are written again.

    Args:
        predictor: its folder.
        scans: the folder of a cohort, or files and folders: DICOM, NIfTI, images, archives.
        workspace: whose secret makes the keys of scans and patients; `medssl link` finds the originals again.

    Returns:
        paths by `scores`, `patients`, `findings`; the number of `units`; and `unlike`, the findings without their keys.

    Raises:
        UserError: no predictor, no scan that it can score, or a file in the place of `out`.
    """
    predictor = predictor if isinstance(predictor, Predictor) else Predictor.load(predictor)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError("the place of the answers is a file, not a folder", str(folder), "Name a folder with --out.")
    with opened(scans, workspace or Workspace()) as (cohort, ingested):
        found = predictor.of_cohort(cohort)
    about = predictor.about
    source = {"experiment": about.experiment, "arm": about.arm, "target": about.target.name, "weights": about.weights}
    places = {name.partition(".")[0]: folder / name for name in FILES}
    write_text(places["scores"], found.units.to_csv(index=False))
    write_text(places["patients"], found.patients.to_csv(index=False))
    counts = {"units": len(found.units), "patients": len(found.patients)}
    write_json(
        places["findings"],
        {"predictor": source, **counts, "findings": found.findings, "calibration": about.calibration.rule}
        | ({} if ingested is None else {"ingestion": ingested}),
    )
    return {
        **{name: str(place) for name, place in places.items()},
        "units": len(found.units),
        "rejected": 0 if ingested is None else len(ingested["rejected_files"]),
        "unlike": [{key: value for key, value in one.items() if key != "keys"} for one in found.findings],
    }
