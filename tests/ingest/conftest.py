"""Shared by the tests of ingestion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.cohort import Cohort
from medssl.config import LabelColumns
from medssl.ingest import IngestReport, ingest


@pytest.fixture
def take(tmp_path: Path, workspace) -> Callable[..., tuple[Cohort, IngestReport]]:
    """Ingest a source in this process into a cohort of its own, and check that all files are accounted for."""

    def run(source: Path, name: str = "cohort", **labels: Any) -> tuple[Cohort, IngestReport]:
        columns = LabelColumns(**labels) if labels else None
        report = ingest([source], tmp_path / name, workspace=workspace, labels=columns, jobs=0)
        files = report.as_json()["files"]
        assert files["found"] == files["accepted"] + files["rejected"] + files["ignored"]
        assert files["found"] == sum(p.is_file() for p in source.rglob("*"))
        return Cohort.open(tmp_path / name), report

    return run
