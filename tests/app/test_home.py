"""Home in every state: what runs, what has stopped, what failed, and the cohorts."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest
from synthetic import write_cohort, write_experiment
from test_pages import one_draw, open_app, words  # noqa: F401  (fixtures)

from medssl.experiment.index import Index


@pytest.fixture
def unfinished(one_draw, tmp_path):  # noqa: F811
    """A workspace whose experiment has done 9 of 12 jobs; 2 failed."""
    workspace = tmp_path / "workspace"
    shutil.copytree(one_draw, workspace)
    folder = workspace / "experiments" / "synthetic"
    index = Index(folder)
    keys = index.jobs()["job"].tolist()
    with index.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET status='planned' WHERE job='{keys[-1]}'")
    for key in keys[:2]:
        index.finish(key, None, "pixels, budget 2: MemoryError: no <b>room</b>\nsecond line")
    index.close()
    return workspace


def test_an_empty_workspace_says_how_experiments_and_cohorts_are_made(open_app, tmp_path):  # noqa: F811
    text = words(open_app(tmp_path / "nothing"))
    assert "no experiments yet" in text and "no cohorts yet" in text and "medssl ingest" in text


def test_a_run_that_stopped_says_why_and_how_it_goes_on(open_app, unfinished):  # noqa: F811
    text = words(open_app(unfinished)).replace("\\", "")
    assert "9 of 12 jobs done, 2 failed" in text
    assert "no <b>room</b>" in text and "second line" not in text
    assert "not running now" in text and "Running now" not in text


def test_what_runs_shows_its_progress(open_app, unfinished):  # noqa: F811
    (unfinished / "experiments" / "synthetic" / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    app = open_app(unfinished)
    text = words(app)
    assert "Running now" in text and "not running now" not in text
    (bar,) = app.get("progress")
    assert bar.proto.value == 91 and "9 of 12 jobs done, 2 failed" in bar.proto.text


def test_a_run_before_its_first_job_says_what_comes_first(open_app, unfinished):  # noqa: F811
    folder = unfinished / "experiments" / "synthetic"
    (folder / "jobs.sqlite").unlink()
    (folder / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    assert "pretraining come first" in words(open_app(unfinished))


def test_cohorts_are_listed_and_open(open_app, tmp_path):  # noqa: F811
    write_experiment(tmp_path, draws=1, test_units=10)
    write_cohort(tmp_path, "second")
    (tmp_path / "cohorts" / "broken").mkdir()
    (tmp_path / "cohorts" / "broken" / "catalog.sqlite").write_bytes(b"")  # its ingest was killed at once
    app = open_app(tmp_path)
    text = words(app)
    assert "32 scans of 16 patients" in text and "CT volumes" in text.replace("\\", "") and "`finding`" in text
    assert "broken" in text and "no such table" in text
    next(b for b in app.button if b.key == "cohort second").click().run()
    assert not app.exception
    assert app.query_params["cohort"] in ("second", ["second"]) and "Scans by modality" in words(app)


def test_while_a_run_goes_on_its_tables_are_not_computed_again_on_every_click(open_app, unfinished, monkeypatch):  # noqa: F811
    open_app(unfinished)
    import state  # the app has put its folder on the path

    folder = unfinished / "experiments" / "synthetic"
    monkeypatch.setattr(state, "time", SimpleNamespace(time=lambda: 1000 * state.FRESH_S))
    before = state._signature(folder)
    (folder / "results" / "another.parquet").touch()
    stopped = state._signature(folder)
    assert stopped != before
    (folder / "lock").write_text(f"{os.getpid()} on {os.uname().nodename}")
    running = state._signature(folder)
    (folder / "results" / "a_third.parquet").touch()
    assert state._signature(folder) == running
    monkeypatch.setattr(state, "time", SimpleNamespace(time=lambda: 1001 * state.FRESH_S))
    assert state._signature(folder) != running
