"""What all commands share: the app, the guard around errors, common options, and how answers are printed."""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.errors import MedsslError, SourcePath
from medssl.progress import console, say

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


KEPT = "What was done is kept: run the same command again to go on."


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a command whose errors become one message and an exit code, never a traceback."""
    name = function.__name__.rstrip("_")

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except MedsslError as error:
            message = error.text(_shown(error.where, kwargs.get("workspace")))
            console.print(f"Error: {message}", markup=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say(f"Interrupted. {KEPT}")
            raise typer.Exit(130) from None
        except SystemExit:  # a scheduler's signal, after which a run has saved its state
            say(f"Stopped. {KEPT}")
            raise
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except typer.Exit:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                say(f"Error: the disk is full.\n  To do: Make room. {KEPT}")
                raise typer.Exit(1) from None
            if sys.stderr.isatty():
                raise
            console.print(_unexpected(error, kwargs.get("workspace")), markup=False, soft_wrap=True)
            raise typer.Exit(1) from None

    return app.command(name)(guarded)


def answer(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value) if as_json else text)


def experiment_folder(name: str, workspace: Path | None) -> Path:
    """Of an experiment that is named by its folder, or as in the workspace."""
    from medssl.workspace import Workspace

    folder = Path(name)
    return folder if (folder / "config.yaml").exists() else Workspace(workspace).experiment(name)


def _shown(where: str, workspace: Path | None) -> str:
    """A place as it may be printed: what may name a patient is shown on a terminal, and by its keyed id in a pipe."""
    if not isinstance(where, SourcePath) or sys.stderr.isatty():
        return where
    from medssl.ingest.identity import Keys
    from medssl.workspace import Workspace

    return f"path {Keys(Workspace(workspace)).place(where)} (shown on a terminal alone)"


def _unexpected(error: Exception, workspace: Path | None) -> str:
    """For a pipe or a log: what happened and in which line of medssl. A message may quote a file."""
    package = Path(__file__).parents[1]
    places = [(Path(f.f_code.co_filename), line) for f, line in traceback.walk_tb(error.__traceback__)]
    lines = [f"{file.relative_to(package)}:{line}" for file, line in places if file.is_relative_to(package)]
    text = f"Error: unexpected {type(error).__name__} in medssl/{lines[-1] if lines else '?'}"
    if isinstance(error, OSError) and isinstance(error.filename, str):
        text += f" about {_shown(SourcePath(error.filename), workspace)} ({error.strerror})"
    return f"{text}\n  To do: Run the same command on a terminal, without a pipe, to see all of it."
