"""The audit passes on a finished run, and each of seven planted faults is found by the check that is named for it."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.cohort import Cohort
from medssl.cohort.arrays import content_hash, write_array
from medssl.experiment import Results, audit
from medssl.report import publish
from medssl.workspace import digest


@pytest.fixture(scope="module")
def published(finished):
    publish(finished[0])
    return finished[1].path


@pytest.fixture
def place(published, tmp_path):
    """A copy of the finished workspace, to be spoilt."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def change(path, edit):
    value = json.loads(path.read_text())
    path.write_text(json.dumps(edit(value) or value))


def failed(place):
    return {check.name for check in audit(place / "experiments" / "tiny") if not check.passed}


def replace_scan(place, scan, array):
    """Put other voxels where a scan was, and tell the catalog."""
    cohort = place / "cohorts" / "tiny"
    write_array(cohort, scan, array)
    with sqlite3.connect(cohort / "catalog.sqlite") as db:
        db.execute("UPDATE scans SET content_hash=? WHERE scan=?", (content_hash(array), scan))


def one_scan(place, part):
    split = json.loads((place / "experiments" / "tiny" / "split.json").read_text())
    scans = Cohort.open(place / "cohorts" / "tiny").scans()
    return scans.loc[scans["patient"] == split[part][0], "scan"].iloc[0]


def test_a_finished_run_passes(published):
    checks = audit(published / "experiments" / "tiny")
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert len(checks) == 8 and all(len(check.sentence) > 20 for check in checks)


def a_patient(place):
    folder = place / "experiments" / "tiny"
    split = json.loads((folder / "split.json").read_text())
    scans = Cohort.open(place / "cohorts" / "tiny").scans()
    stranger = scans.loc[scans["patient"] == split["test"][0], "scan"].iloc[0]

    def edit(draws):
        for budgets in draws.values():
            for units in budgets.values():
                units[0] = stranger

    change(folder / "budgets.json", edit)


def an_exact_duplicate(place):
    array = np.array(Cohort.open(place / "cohorts" / "tiny").array(one_scan(place, "test")))
    replace_scan(place, one_scan(place, "pool"), array)


def a_near_duplicate(place):
    array = np.array(Cohort.open(place / "cohorts" / "tiny").array(one_scan(place, "test"))).astype(int)
    noisy = array + np.random.default_rng(0).integers(-3, 4, array.shape)
    replace_scan(place, one_scan(place, "pool"), np.clip(noisy + 5, 0, 255).astype(np.uint8))


def a_test_patient_in_pretraining(place):
    split = json.loads((place / "experiments" / "tiny" / "split.json").read_text())
    (file,) = (place / "encoders").glob("*/patients.json")
    change(file, lambda patients: sorted([*patients, split["test"][3]]))


def a_budget_that_does_not_nest(place):
    def edit(draws):
        spare = next(u for u in draws["1"]["all"] if u not in draws["1"]["5"])
        draws["1"]["2"][0] = spare

    change(place / "experiments" / "tiny" / "budgets.json", edit)


def different_draws(place):
    folder = place / "experiments" / "tiny"
    jobs = Results.open(folder).jobs()
    jobs = jobs[(jobs["arm"] == "random") & (jobs["budget"] == "5")]
    for key in jobs.loc[jobs["draw"] == 2, "job"]:
        file = folder / "results" / f"{key}.parquet"
        pd.read_parquet(file).assign(labels=digest(["other labels"])).to_parquet(file, index=False)


def an_edited_table(place):
    table = place / "experiments" / "tiny" / "scores.csv"
    scores = pd.read_csv(table)
    scores.loc[0, "score"] += 0.01
    scores.to_csv(table, index=False)


def an_edited_store(place):
    file = Results.open(place / "experiments" / "tiny").tables_file

    def edit(tables):
        tables["differences"]["rows"][0]["verdict"] = "helps"
        tables["differences"]["rows"][0]["difference"] += 0.02

    change(file, edit)


def another_recipe(place):
    folder = place / "experiments" / "tiny" / "results"
    rows = pd.read_parquet(next(folder.glob("*.parquet")))
    rows.assign(arm="simclr", recipe="tuned on the test patients").to_parquet(folder / "extra.parquet", index=False)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (a_patient, "patients"),
        (an_exact_duplicate, "exact duplicates"),
        (a_near_duplicate, "near duplicates"),
        (a_test_patient_in_pretraining, "pretraining"),
        (a_budget_that_does_not_nest, "nested budgets"),
        (different_draws, "same draws"),
        (an_edited_table, "tables"),
        (an_edited_store, "tables"),
        (another_recipe, "trials"),
    ],
)
def test_planted_faults_are_found(place, fault, check):
    fault(place)
    found = failed(place)
    assert check in found and (check not in ("tables", "trials") or found == {check})


def test_missing_artefacts_prove_nothing(place):
    next((place / "encoders").glob("*/patients.json")).unlink()
    assert "pretraining" in failed(place)


def test_the_command_says_so_by_its_exit_code(published, place):
    from typer.testing import CliRunner

    from medssl.cli import app

    good = CliRunner().invoke(app, ["audit", "tiny", "--workspace", str(published), "--json"])
    assert good.exit_code == 0 and json.loads(good.stdout)["passed"] is True
    an_edited_table(place)
    bad = CliRunner().invoke(app, ["audit", str(place / "experiments" / "tiny")])
    assert bad.exit_code == 1 and "FAIL  tables" in bad.stdout
