"""Commands that take an arm away from an experiment and run it on new scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.base import JsonOption, WorkspaceOption, answer, command, experiment_folder
from medssl.workspace import Workspace


@command
def refit(
    experiment: Annotated[str, typer.Argument(help="An experiment of the workspace, or its folder.")],
    arm: Annotated[str, typer.Argument(help="One of its arms.")],
    out: Annotated[Path, typer.Option(help="Folder of the predictor.")],
    budget: Annotated[str, typer.Option(help="One of the experiment's budgets, or `all` labels of the pool.")] = "all",
    draw: Annotated[int, typer.Option(min=0, help="Whose labels and seed.")] = 0,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Fit on the labels of the validation and test parts as well.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit an arm once more and save it as a predictor: weights, View, classes, calibration and a model card.

    With a budget and draw of the experiment it is the very model that was scored there. With --all-labels nothing is
    left to test it on, and the card says that its figures are those of the arm fitted on fewer.
    """
    from medssl.config import Budget
    from medssl.errors import unknown
    from medssl.report import write_predictor

    if budget != "all" and not budget.isdecimal():
        raise unknown("budget", budget, ["all", "a number"], "--budget")
    chosen: Budget = "all" if budget == "all" else int(budget)
    made = write_predictor(experiment_folder(experiment, workspace), arm, out, chosen, draw, all_labels)
    labels = made.about.labels
    about = {
        "predictor": str(out),
        "card": str(out / "card.md"),
        "job": labels.job,
        "units": labels.units,
        "patients": labels.patients,
        "temperature": made.about.calibration.temperature,
    }
    text = f"{out}: {arm}, fitted on {labels.units} labeled {made.about.target.unit}s of {labels.patients} patients"
    answer(about, as_json, f"{text}\n{made.about.calibration.rule}\nCard: {about['card']}")


@command
def predict(
    predictor: Annotated[Path, typer.Argument(help="Folder that `medssl refit` wrote.")],
    scans: Annotated[list[Path], typer.Argument(help="Folders or files as for `medssl ingest`, or one cohort.")],
    out: Annotated[Path, typer.Option(help="Folder of scores.csv, patients.csv and findings.json.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a predictor on scans: a row a unit and a row a patient, and findings where a scan is unlike its cohort.

    Scans are ingested for as long as this takes. Keys are the workspace's: `medssl link` finds the originals again.
    """
    from medssl.experiment.predictor import predict as run_predictor

    done = run_predictor(predictor, scans, out, Workspace(workspace))
    lines = [f"{done['units']} units: {done['scores']}\nby patient: {done['patients']}"]
    if done["rejected"]:
        lines.append(f"  {done['rejected']} file(s) could not be read: see 'ingestion' in the findings")
    lines += [f"  {one['severity']}: {one['sentence']} ({one['count']}) {one['todo']}" for one in done["unlike"]]
    answer(done, as_json, "\n".join([*lines, f"Findings: {done['findings']}"]))
