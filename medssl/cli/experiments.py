"""Commands that run experiments and show them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.base import JsonOption, Settings, WorkspaceOption, answer, command, experiment_folder
from medssl.errors import MedsslError, UserError
from medssl.progress import say
from medssl.workspace import Workspace


@command
def run(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a shipped config (demo, kermany_cxr, busi).")
    ],
    overrides: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be run, and which difference can be detected at all.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment to its label-efficiency curve: ingest, split, pretrain, all arms, statistics, report."""
    from medssl.config import load_experiment
    from medssl.experiment import run as run_experiment
    from medssl.experiment.runner import preview
    from medssl.report import publish

    if dry_run:
        about, words = preview(load_experiment(config, overrides or []), Workspace(workspace))
        answer(about, as_json, words)
        return
    results = run_experiment(load_experiment(config, overrides or []), Workspace(workspace))
    _show(results, publish(results), as_json)


@command
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer virtual patients and steps: one or two minutes.")
    ] = False,
    contrasts: Annotated[bool, typer.Option("--contrasts", help="Two contrasts a patient, for cross_channel.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way on virtual patients, without network: scans, pretraining, curve, report. No evidence."""
    from medssl.demo import run_demo
    from medssl.report import publish

    place = Workspace(workspace)
    results = run_demo(place, quick=quick, contrasts=contrasts)
    _show(results, publish(results), as_json)
    say(f"To look at it in the browser: medssl app --workspace {place.path}")


@command
def power(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped config.")],
    overrides: Settings = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say before any training which difference in AUC an experiment can detect at all. Ingests and splits if needed."""
    from medssl.config import load_experiment
    from medssl.experiment.plan import make_plan
    from medssl.experiment.power import foresee, foresee_sentence
    from medssl.experiment.prepare import ensure_cohort

    wanted = load_experiment(config, overrides or [])
    found = foresee(make_plan(wanted, ensure_cohort(wanted.cohort, Workspace(workspace))))
    answer(found, as_json, foresee_sentence(found))


@command
def audit(
    experiment: Annotated[str, typer.Argument(help="An experiment of the workspace, or its folder.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove from an experiment's artefacts that it kept its protocol. Exits with 1 where it did not.

    No patient and no duplicate crosses pretraining, training, validation and test; budgets nest; all arms met the same
    draws and had the same number of trials; the tables follow from the evidence.
    """
    from medssl.experiment import audit as run_audit

    folder = experiment_folder(experiment, workspace)
    checks = run_audit(folder)
    passed = all(check.passed for check in checks)
    lines = [f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.sentence}" for check in checks]
    about = {"experiment": str(folder), "passed": passed, "checks": [vars(check) for check in checks]}
    answer(about, as_json, "\n".join(lines))
    if not passed:
        raise typer.Exit(1)


@command
def app_(
    workspace: WorkspaceOption = None,
    port: Annotated[int, typer.Option(help="Of the dashboard's address.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Another one than localhost needs a login first: see docs/dashboard.md.")
    ] = "localhost",
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder whose scans the app may read (repeat). Default: MEDSSL_DATA. The workspace always."
        ),
    ] = None,
) -> None:
    """Open the dashboard on localhost. Pages start runs; no other path than the workspace and --folder can be named."""

    package = Path(__file__).parents[1]
    main_page = next(
        (p for p in (package / "_app" / "main.py", package.parent / "app" / "main.py") if p.exists()), None
    )
    if main_page is None:
        raise MedsslError("the app's pages are missing from this installation", "app", "Install medssl again.")
    place = Workspace(workspace)
    if address not in ("localhost", "127.0.0.1", "::1") and not _login_is_set_up():
        raise UserError(
            f"on '{address}' everybody who can reach this computer would see the workspace, without a password",
            "--address",
            "Leave it out and put a web server with a password before localhost, or set up Streamlit's login: see "
            "docs/dashboard.md.",
        )
    if missing := next((f for f in folder or [] if not f.is_dir()), None):
        raise UserError("there is no such folder", str(missing), "Name an existing one with --folder.")
    listed = [part for f in folder or [] for part in ("--folder", str(f.resolve()))]
    flags = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    _refuse_taken_port(address, port)
    say(f"medssl: http://{address}:{port} (workspace {place.path}). Stop with Ctrl+C.")
    server = [sys.executable, str(main_page.with_name("serve.py"))]
    command = [*server, "run", str(main_page), *arguments, "--", str(place.path), *listed]
    os.execv(sys.executable, command)  # the server is this process, so that who stops one stops both


def _refuse_taken_port(address: str, port: int) -> None:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            what = f"port {port} of '{address}' cannot be used; perhaps another medssl app runs there"
            raise UserError(what, "--port", "Stop that one, or choose another with --port.") from None


def _login_is_set_up() -> bool:
    """`[auth]` in a secrets.toml where Streamlit looks for one: the user's own, or that of this folder."""
    import tomllib

    for folder in (Path.home(), Path.cwd()):
        try:
            if "auth" in tomllib.loads((folder / ".streamlit" / "secrets.toml").read_text()):
                return True
        except (OSError, ValueError):
            continue
    return False


def _show(results: Any, files: dict[str, Path], as_json: bool) -> None:
    """The table, the verdicts and where the figures are; or all of it as JSON."""
    if as_json:
        answer({**results.as_json(), "report": str(files["report"]), "figure": str(files["figure"])}, True, "")
        return
    from medssl.report import terminal_table

    for note in results.notes:
        say(f"Note: {note}")
    print(terminal_table(results))
    for sentence in results.verdicts()["sentence"]:
        print(sentence)
    for sentence in results.claim_sentences():
        print(sentence)
    print(f"Curve: {files['figure']}\nReport: {files['report']}")
