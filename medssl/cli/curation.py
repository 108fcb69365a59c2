"""Commands that look after a cohort: what a person should see, and its data card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.base import JsonOption, answer, command

CohortArgument = Annotated[Path, typer.Argument(help="Folder of a cohort.")]


@command
def check(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """Find duplicates, patients under two keys, labels that disagree, outliers, and what would leak in a split.

    Ends with 1 where a person must decide something. All cases go to check.json in the cohort.
    """
    from medssl.cohort import Cohort
    from medssl.cohort.check import check as run_check

    found = run_check(Cohort.open(cohort))
    answer(found.as_json(), as_json, "\n".join(found.lines()))
    if found.to_decide:
        raise typer.Exit(1)
