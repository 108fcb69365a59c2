"""SQL index of jobs: which exist, which are done, how long they took. The evidence itself lies in Parquet files.

SQLite in the experiment's folder by default; `MEDSSL_INDEX` may name another SQLAlchemy URL (PostgreSQL), which several
machines share. There an experiment is known by the id in the file `index` of its folder, since several workspaces may
have one of the same name.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import sqlalchemy as sql

from medssl.experiment.plan import Job
from medssl.workspace import write_text

_METADATA = sql.MetaData()
JOBS = sql.Table(
    "jobs",
    _METADATA,
    sql.Column("experiment", sql.String, primary_key=True),
    sql.Column("job", sql.String, primary_key=True),
    sql.Column("position", sql.Integer, nullable=False),
    sql.Column("arm", sql.String, nullable=False),
    sql.Column("budget", sql.String, nullable=False),
    sql.Column("draw", sql.Integer, nullable=False),
    sql.Column("status", sql.String, nullable=False),  # planned, done, failed
    sql.Column("seconds", sql.Float),
    sql.Column("error", sql.String),
)


def has_index(folder: Path) -> bool:
    """Whether jobs of this experiment were ever planned."""
    return (folder / ("index" if os.environ.get("MEDSSL_INDEX") else "jobs.sqlite")).exists()


class Index:
    """The jobs of one experiment.

    Args:
        folder: of the experiment.
    """

    def __init__(self, folder: Path) -> None:
        shared = os.environ.get("MEDSSL_INDEX")
        self.experiment = _own_id(folder) if shared else folder.name
        self.engine = sql.create_engine(shared or f"sqlite:///{folder / 'jobs.sqlite'}")
        _METADATA.create_all(self.engine)

    def plan(self, jobs: Iterable[Job], done: set[str]) -> None:
        """Replace the list of jobs by this one; `done` are those whose evidence is there already."""
        seconds = self.jobs().set_index("job")["seconds"].to_dict()
        rows = [
            {
                "experiment": self.experiment,
                "job": job.key,
                "position": position,
                "arm": job.arm,
                "budget": str(job.budget),
                "draw": job.draw,
                "status": "done" if job.key in done else "planned",
                "seconds": seconds.get(job.key),
            }
            for position, job in enumerate(jobs)
        ]
        with self.engine.begin() as connection:
            connection.execute(sql.delete(JOBS).where(JOBS.c.experiment == self.experiment))
            if rows:
                connection.execute(sql.insert(JOBS), rows)

    def unplan(self) -> None:
        """No job counts as done, until the next plan says which ones are: the config has changed."""
        with self.engine.begin() as connection:
            connection.execute(sql.update(JOBS).where(JOBS.c.experiment == self.experiment).values(status="planned"))

    def finish(self, key: str, seconds: float | None, error: str | None = None) -> None:
        status = "failed" if error else "done"
        change = sql.update(JOBS).where(JOBS.c.experiment == self.experiment, JOBS.c.job == key)
        with self.engine.begin() as connection:
            connection.execute(change.values(status=status, seconds=seconds, error=error))

    def jobs(self) -> pd.DataFrame:
        """Columns `job, arm, budget, draw, status, seconds, error`, in the order of running."""
        rows = sql.select(JOBS).where(JOBS.c.experiment == self.experiment).order_by(JOBS.c.position)
        with self.engine.connect() as connection:
            return pd.read_sql(rows, connection).drop(columns=["experiment", "position"])

    def progress(self) -> tuple[dict[str, int], str]:
        """(jobs by status, the sentence of the first that failed), without reading the jobs themselves."""
        ours = JOBS.c.experiment == self.experiment
        counts = sql.select(JOBS.c.status, sql.func.count()).where(ours).group_by(JOBS.c.status)
        first = sql.select(JOBS.c.error).where(ours, JOBS.c.status == "failed").order_by(JOBS.c.position).limit(1)
        with self.engine.connect() as connection:
            found = {status: int(n) for status, n in connection.execute(counts)}
            return found, (connection.execute(first).scalar() or "") if found.get("failed") else ""

    def close(self) -> None:
        self.engine.dispose()


def _own_id(folder: Path) -> str:
    path = folder / "index"
    if not path.exists():
        write_text(path, f"{folder.name} {uuid.uuid4().hex}")
    return path.read_text(encoding="utf-8")
