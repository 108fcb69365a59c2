"""The history of a run: one JSON object a log step in `history.jsonl`, plain data that every tool can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.progress import say
from medssl.workspace import read_lines, write_text

if TYPE_CHECKING:
    import pandas as pd


class History:
    """Lines are flushed one by one, so that a run can be watched while it goes.

    Args:
        path: the file; lines after `step` are dropped, because a resumed run writes them again.
        loggers: names from `Engine.log` that get every line as well.
    """

    def __init__(self, path: Path, step: int, loggers: Sequence[str] = ()) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))  # whole or not at all, as on a full disk
        self._file = path.open("a")
        self._loggers = [open_logger(name, path.parent, step) for name in loggers]
        self._full = False

    def add(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk must not end a run of days
            if not self._full:
                say(f"The history cannot be written ({error.strerror}); training goes on.")
            self._full = True
        numbers = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and k != "step"}
        for logger in self._loggers:
            logger.add(numbers, line["step"])

    def close(self) -> None:
        self._file.close()
        for logger in self._loggers:
            logger.close()


class TensorBoard:
    """Event files in `tensorboard/` beside the history."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment `medssl`, at MLFLOW_TRACKING_URI, else in `mlflow.db` beside the history."""

    def __init__(self, folder: Path, step: int) -> None:
        import os

        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        mlflow.set_experiment("medssl")
        self._mlflow, known = mlflow, folder / "mlflow_run"  # names its run: others may have folders of this name
        before = known.read_text() if step and known.is_file() else None
        run = mlflow.start_run(run_id=before, run_name=folder.resolve().name)
        write_text(known, run.info.run_id)

    def add(self, numbers: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(numbers, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def open_logger(name: str, folder: Path, step: int) -> TensorBoard | MLflow:
    """A further place for the history's numbers; its name and package were checked before."""
    return (TensorBoard if name == "tensorboard" else MLflow)(folder, step)


def read_history(path: Path) -> pd.DataFrame:
    """One row a log step: step, loss, the task's metrics, learning_rate, images_per_second, grad_norm, ..."""
    import pandas as pd

    return pd.DataFrame(read_lines(path))
