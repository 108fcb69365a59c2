"""What all commands share: the app, the guard around errors, common options, and how answers are printed."""

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


def answer(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value) if as_json else text)
