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


@command
def card(
    cohort: CohortArgument,
    out: Annotated[Path | None, typer.Option(help="Folder of the card. Default: the cohort's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write or renew the data card: NAME.md for people, NAME.croissant.json for machines.

    Figures are made again; what people wrote in NAME.md is kept.
    """
    from medssl.cohort import Cohort
    from medssl.cohort.card import write_card

    page, metadata = write_card(Cohort.open(cohort), out)
    answer({"card": str(page), "croissant": str(metadata)}, as_json, f"{page}\n{metadata}")
