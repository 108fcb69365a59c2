"""Each look at the test split is written down: by which experiment, with which config, when, how many jobs."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from medssl.workspace import read_lines


def enter(cohort: Path, experiment: str, config: str, jobs: int) -> None:
    """Add a look to the cohort's ledger: one line is appended, so that experiments cannot undo each other's."""
    look = {
        "experiment": experiment,
        "config": config,
        "jobs": jobs,
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with (cohort / "test_ledger.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(look) + "\n")


def looks(cohort: Path) -> list[dict[str, Any]]:
    """All looks at this cohort's test split, oldest first."""
    return read_lines(cohort / "test_ledger.jsonl")
