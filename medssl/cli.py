"""The command line: one thin command per public function.

Results go to standard output (`--json`: one object and nothing else), messages to standard error.
Exit codes: 0 done, 1 failed, 2 the user's input.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.errors import MedsslError
from medssl.progress import console, say
from medssl.workspace import Workspace

app = typer.Typer(
    help="Does self-supervised pretraining on our own scans help here, and how many labels does it save?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        help="Folder of everything medssl makes. Default: $MEDSSL_WORKSPACE, else ./medssl_workspace.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, read as YAML.")]
ScanColumn = Annotated[
    str | None, typer.Option(help="Column that names a scan's file or folder. Default: the one that fits.")
]
PatientColumn = Annotated[str | None, typer.Option(help="Column with the patient's id.")]
GroupColumn = Annotated[str | None, typer.Option(help="Column whose equal values stay on one side of a split.")]
TargetOption = Annotated[
    list[str] | None, typer.Option("--target", help="Column to predict (repeat). Default: the rest.")
]


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a command whose errors become one message and an exit code, never a traceback."""
    name = function.__name__.rstrip("_")

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except MedsslError as error:
            console.print(f"Error: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("Interrupted. What was done is kept: run the same command again to go on.")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return app.command(name)(guarded)


@command
def ingest(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders or files: DICOM, NIfTI, PNG, JPEG, TIFF, MedMNIST .npz.")
    ],
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort that is made or added to.")],
    labels: Annotated[Path | None, typer.Option(help="CSV or TSV with labels.")] = None,
    scan_column: ScanColumn = None,
    patient_column: PatientColumn = None,
    group_column: GroupColumn = None,
    target: TargetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn scans into a cohort; every file is accepted, rejected with a reason, or ignored with a reason."""
    from medssl.ingest import ingest as run_ingest

    columns = _columns(labels, scan_column, patient_column, group_column, target) if labels else None
    report = run_ingest(sources, cohort, workspace=Workspace(workspace), labels=columns)
    _answer(report.as_json(), as_json, "\n".join(report.lines()))


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

    columns = _columns(labels, scan_column, patient_column, group_column, target)
    counts = add_labels(Cohort.open(cohort), columns, Workspace(workspace))
    _answer(counts, as_json, "\n".join(f"{key}: {value}" for key, value in counts.items()))


@command
def pretrain(
    cohort: Annotated[Path, typer.Argument(help="Folder of a cohort.")],
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="Pretext task; see `medssl tasks`.")] = "simclr",
    out: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/encoders/COHORT-TASK.")] = None,
    encoder: Annotated[str, typer.Option(help="`small` (house ResNet, 1.2 M parameters) or any timm name.")] = "small",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps. Default, with no --epochs and --minutes: 1000.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images, instead of steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Turned into steps once, before step 1.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, views and order.")] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pretrain an encoder without labels. Interrupted, the same command goes on where it was.

    Settings are the task's own (see `medssl tasks`), fields of the View (plane=coronal, fit=stretch), and weights,
    batch, precision, learning_rate, checkpoint_every. The default View is the cohort's middle way: 64 pixels, the
    centre square, a soft-tissue window for CT, the full range of 8-bit images and percentiles .5 to 99.5 otherwise.
    """
    from medssl.cohort import Cohort
    from medssl.config import View, apply_overrides, validate
    from medssl.training import pretrain as run_pretrain

    opened = Cohort.open(cohort)
    raw: dict[str, Any] = {}
    apply_overrides(raw, settings or [])
    view = {"size": size} | {key: raw.pop(key) for key in list(raw) if key in View.model_fields}
    engine = ("weights", "batch", "precision", "learning_rate", "checkpoint_every")
    options = {key: raw.pop(key) for key in engine if key in raw}
    result = run_pretrain(
        opened,
        task,
        out=out or Workspace(workspace).encoder(f"{opened.name}-{task}"),
        encoder=encoder,
        view=validate(View, view, "view"),
        steps=steps if steps or epochs or minutes else 1000,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        settings=raw,
        **options,
    )
    answer = result.as_json()
    speed = f"{answer['images_per_second']:.0f} images/s" if answer["images_per_second"] else "finished before"
    _answer(answer, as_json, f"{answer['checkpoint']}\n{answer['steps']} steps, {speed}")


@command
def tasks(as_json: JsonOption = False) -> None:
    """List the pretext tasks: paper, what they take, what they do."""
    from medssl.pretext import tasks as all_tasks

    about = ("paper", "sampling", "dims", "channels", "line")
    rows = [{"name": name, **{key: getattr(task, key) for key in about}} for name, task in all_tasks().items()]
    lines = [f"{row['name']:<12} {row['line']} ({row['paper']})" for row in rows]
    _answer(rows, as_json, "\n".join(lines))


@command
def run(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a shipped config (demo, kermany_cxr, busi).")
    ],
    overrides: Settings = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment to its label-efficiency curve: ingest, split, pretrain, all arms, statistics, report."""
    from medssl.config import load_experiment
    from medssl.experiment import run as run_experiment
    from medssl.report import publish

    results = run_experiment(load_experiment(config, overrides or []), Workspace(workspace))
    _show(results, publish(results), as_json)


@command
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer virtual patients and steps: at most a minute.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way on virtual patients, without network: scans, pretraining, curve, report. No evidence."""
    from medssl.demo import run_demo
    from medssl.report import publish

    place = Workspace(workspace)
    results = run_demo(place, quick=quick)
    _show(results, publish(results), as_json)
    say(f"To look at it in the browser: medssl app --workspace {place.path}")


@command
def app_(
    workspace: WorkspaceOption = None,
    port: Annotated[int, typer.Option(help="On localhost.")] = 8501,
) -> None:
    """Open the dashboard on localhost."""
    import subprocess

    package = Path(__file__).parent
    main_page = next(
        (p for p in (package / "_app" / "main.py", package.parent / "app" / "main.py") if p.exists()), None
    )
    if main_page is None:
        raise MedsslError("the app's pages are missing from this installation", "app", "Install medssl again.")
    place = Workspace(workspace)
    flags = {
        "server.address": "localhost",
        "server.port": str(port),
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    say(f"medssl: http://localhost:{port} (workspace {place.path}). Stop with Ctrl+C.")
    done = subprocess.run([sys.executable, "-m", "streamlit", "run", str(main_page), *arguments, "--", str(place.path)])
    raise typer.Exit(done.returncode)


def main() -> None:
    app()


def _columns(file: Path, scan: str | None, patient: str | None, group: str | None, target: list[str] | None):
    from medssl.config import LabelColumns

    return LabelColumns(file=str(file), scan=scan, patient=patient, group=group, targets=target or [])


def _show(results: Any, files: dict[str, Path], as_json: bool) -> None:
    """The table, the verdicts and where the figures are; or all of it as JSON."""
    if as_json:
        _answer({**results.as_json(), "report": str(files["report"]), "figure": str(files["figure"])}, True, "")
        return
    from medssl.report import terminal_table

    for note in results.notes:
        say(f"Note: {note}")
    print(terminal_table(results))
    for sentence in results.verdicts()["sentence"]:
        print(sentence)
    print(f"Curve: {files['figure']}\nReport: {files['report']}")


def _answer(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value) if as_json else text)


if __name__ == "__main__":
    main()
