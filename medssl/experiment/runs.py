"""Pretraining runs of a workspace, as their folders tell of them, while they run and afterwards. Torch is not needed.

for run in runs(workspace):
    print(run.name, run.task, run.state, run.alarms())
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from medssl.config.pretraining import SUNK
from medssl.workspace import Workspace, holder, read_lines

LEFT_OUT = frozenset({"samples", "excluded", "threads", "processes", "modality"})  # say nothing to people

FIRST = ("cohort", "task", "encoder", "weights", "steps", "batch", "learning_rate")  # what people look for


class Alarm(NamedTuple):
    """What the monitors said, and at which step."""

    step: int
    words: str


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        name: of its folder under `encoders/`.
        path: that folder.
        about: what `run.json` says; empty before the first step, and where the file is damaged.
    """

    name: str
    path: Path
    about: dict[str, Any]

    @property
    def state(self) -> Literal["running", "finished", "stopped"]:
        """A stopped run goes on when its command is repeated."""
        if holder(self.path):
            return "running"
        return "finished" if self.checkpoint.is_file() else "stopped"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def task(self) -> str:
        return str(self.about.get("identity", {}).get("task", ""))

    @property
    def cohort(self) -> str:
        return str(self.about.get("cohort", ""))

    @property
    def steps(self) -> int:
        """In all; 0 where that is not known."""
        return int(self.about.get("identity", {}).get("steps", 0))

    def history(self) -> pd.DataFrame:
        """One row a log step: step, loss, metrics, monitors; empty before the first."""
        log = pd.DataFrame(read_lines(self.path / "history.jsonl"))
        return log if "step" in log else pd.DataFrame()

    def alarms(self) -> list[Alarm]:
        """What the monitors said, oldest first."""
        lines = read_lines(self.path / "history.jsonl")
        return [Alarm(int(line["step"]), line["warning"]) for line in lines if line.get("warning")]

    def levels(self, metric: str) -> dict[str, float]:
        """Values to hold a metric against: where nothing is learned, and of monitors where an alarm begins."""
        if metric == "spread_kept":
            return {"untrained": 1.0, "alarm below": SUNK}
        start = self.about.get("floor", {}).get(metric)
        if start is None:
            return {}
        return {"untrained" if metric.endswith(("_std", "rankme")) else "nothing learned": float(start)}

    def seconds_left(self, history: pd.DataFrame) -> float | None:
        """Of a run, at the speed of its last log line; None where that is not known."""
        batch = self.about.get("identity", {}).get("batch")
        if history.empty or not self.steps or not batch or not history["images_per_second"].iloc[-1] > 0:
            return None
        return float((self.steps - history["step"].iloc[-1]) * batch / history["images_per_second"].iloc[-1])

    def settings(self) -> dict[str, Any]:
        """What was asked for and resolved, in one level: `view.size`, `settings.temperature`, `batch`, ..."""
        identity = {key: value for key, value in self.about.get("identity", {}).items() if key not in LEFT_OUT}
        if not identity:
            return {}
        found = {"cohort": self.cohort} | _flat(identity)
        return {key: found[key] for key in [*(k for k in FIRST if k in found), *(k for k in found if k not in FIRST)]}


def runs(workspace: Workspace) -> list[Run]:
    """All runs of a workspace, the one that changed last first."""
    folders = sorted(workspace.encoders(), key=lambda p: (p / "history.jsonl").stat().st_mtime_ns, reverse=True)
    return [Run(folder.name, folder, _about(folder / "run.json")) for folder in folders]


def differing(chosen: Sequence[Run]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Settings that differ between runs, one value a run (None where a run has no such setting), and those that do not.

    Args:
        chosen: runs whose settings are known.
    """
    own = [run.settings() for run in chosen]
    keys = list(dict.fromkeys(key for settings in own for key in settings))
    values = {key: [settings.get(key) for settings in own] for key in keys}
    apart = {key: row for key, row in values.items() if any(value != row[0] for value in row)}
    return apart, {key: row[0] for key, row in values.items() if key not in apart}


def _about(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("identity", {}), dict) else {}


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {before + key: value}
    return out
