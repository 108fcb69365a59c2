"""The history of a run: one JSON object a log step in `history.jsonl`, plain data that every tool can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.workspace import read_lines

if TYPE_CHECKING:
    import pandas as pd


class History:
    """Lines are flushed one by one, so that a run can be watched while it goes.

    Args:
        path: the file; lines after `step` are dropped, because a resumed run writes them again.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def add(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> pd.DataFrame:
    """One row a log step: step, loss, the task's metrics, learning_rate, images_per_second, grad_norm, ..."""
    import pandas as pd

    return pd.DataFrame(read_lines(path))
