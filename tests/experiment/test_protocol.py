"""Pretraining seeds, training seeds of an arm's own, workers that are killed, and tables that follow the evidence."""

import json
import os
import signal
import time

import pandas as pd
import pytest

from medssl.config import load_experiment
from medssl.errors import MedsslError, UserError
from medssl.experiment import Results, audit, run
from medssl.experiment.loading import load_evidence
from medssl.statistics import read_evidence

ARMS = {
    "scratch": {"encoder": "small", "strategy": {"name": "finetune", "min_steps": 2, "batch": 8, "epochs": 0.1}},
    "again": {
        "encoder": "small",
        "strategy": {"name": "finetune", "min_steps": 2, "batch": 8, "epochs": 0.1},
        "seed": 1,
    },
    "simclr": {"pretrain": "simclr", "pretrain_seeds": 2},
    "once": {"pretrain": "simclr"},
}


@pytest.fixture(scope="module")
def several(tiny_raw, tmp_path_factory):
    """A finished run with two pretraining seeds in one arm, and one arm with other training seeds."""
    from medssl.config import Experiment, validate
    from medssl.workspace import Workspace

    raw = {**tiny_raw, "arms": ARMS, "baseline": ["scratch"]}
    raw |= {"budgets": [2, "all"], "claim": {"arm": "simclr", "baseline": "scratch", "budget": 2, "margin": 0.2}}
    return run(validate(Experiment, raw, "tiny"), Workspace(tmp_path_factory.mktemp("several")), processes=1)


def test_each_pretraining_seed_meets_every_draw(several):
    evidence = several.evidence()
    met = evidence[evidence["arm"] == "simclr"].groupby(["run", "budget"])["draw"].nunique()
    assert met.tolist() == [3] * 4 and set(evidence.loc[evidence["arm"] == "once", "run"]) == {0}
    keys = json.loads((several.path / "pretrained.json").read_text())
    assert list(keys) == ["simclr", "simclr #2"] and len(set(keys.values())) == 2
    assert set(several.histories()) == set(keys)
    scores = several.arrays.scores["simclr", 2]
    assert scores.shape[:2] == (2, 3) and (scores[0] != scores[1]).any()
    assert (scores[0] == several.arrays.scores["once", 2][0]).all(), "the first encoder is shared"
    table = several.scores().set_index(["arm", "budget", "metric"])["pretrain_seeds"]
    assert table["simclr", 2, "auc"] == 2 and table["once", 2, "auc"] == 1
    assert any("simclr was pretrained 2 times" in note for note in several.notes)
    said = several.verdicts()["sentence"]
    assert not said.str.contains("this checkpoint").any() and said.iloc[0].count("named beforehand") == 1
    assert any("0.2 (auc; " in sentence for sentence in several.claim_sentences())
    assert all(check.passed for check in audit(several.path))


def test_an_arm_with_a_seed_of_its_own_shares_labels_and_nothing_else(several):
    evidence = several.evidence().drop_duplicates(["arm", "budget", "draw", "run"])
    seeds = evidence.pivot_table(index=["budget", "draw"], columns="arm", values="seed")
    assert (seeds["scratch"] == seeds["once"]).all() and (seeds["scratch"] != seeds["again"]).all()
    labels = evidence.groupby(["budget", "draw"])["labels"].nunique()
    assert (labels == 1).all()
    assert (several.arrays.scores["scratch", 2] != several.arrays.scores["again", 2]).any()


def test_evidence_read_from_files_equals_its_rows(several):
    quick, rows = load_evidence(several.files(), None, "test"), read_evidence(several.evidence())
    assert quick.classes == rows.classes and (quick.units == rows.units).all() and (quick.truth == rows.truth).all()
    assert (quick.patients == rows.patients).all() and quick.scores.keys() == rows.scores.keys()
    assert all((quick.scores[cell] == rows.scores[cell]).all() for cell in rows.scores)


def test_tables_follow_the_evidence_and_not_a_stale_copy(finished, tmp_path):
    import shutil

    folder = tmp_path / "experiments" / "tiny"
    shutil.copytree(finished[0].path, folder)
    before = Results.open(folder).scores()
    file = Results.open(folder).files()[0]
    rows = pd.read_parquet(file)
    rows.assign(score=1 - rows["score"]).to_parquet(file, index=False)
    assert not Results.open(folder).scores().equals(before)
    for table in (folder / "tables").glob("[0-9a-f]*.json"):
        table.write_text("{ damaged")
    assert Results.open(folder).scores()["score"].notna().all()


def test_a_killed_worker_costs_its_job_and_no_other(tiny_config, workspace, monkeypatch):
    """The system kills a worker for memory, twice on the same job."""
    from medssl.experiment import jobs

    monkeypatch.setattr(jobs, "_attempt", kills_its_worker)
    arms = {"pixels": {"encoder": "pixels"}}
    config = load_experiment(tiny_config(arms=arms, budgets=[2, "all"], pretraining={}, baseline="pixels", claim=None))
    with pytest.raises(MedsslError, match=r"jobs failed.*killed twice"):
        run(config, workspace, processes=2)
    table = Results.open(workspace.experiment("tiny")).jobs()
    bad = table[(table["budget"] == "2") & (table["draw"] == 1)]
    assert bad["status"].tolist() == ["failed"] and (table["status"] == "done").sum() == len(table) - 1
    assert not list((workspace.experiment("tiny") / "results").glob("*.running"))
    monkeypatch.undo()
    assert run(config, workspace, processes=1).complete


@pytest.mark.parametrize("first", ["good", "both"])
def test_only_the_job_that_kills_its_worker_is_given_up(tiny_config, workspace, monkeypatch, first):
    """The good job of two is done before the other one kills its worker, or is under way both times; and the bad one,
    when it is the last, would run in this process."""
    from medssl.experiment import jobs

    monkeypatch.setattr(jobs, "_attempt", kills_its_worker_late if first == "good" else kills_beside_a_slow_one)
    arms = {"pixels": {"encoder": "pixels"}}
    raw = {"arms": arms, "budgets": [2], "draws": 2, "pretraining": {}, "baseline": "pixels", "claim": None}
    for words in (r"1 of 2 jobs failed.*killed twice", r"1 of 1 jobs failed.*killed twice"):  # and again, alone
        with pytest.raises(MedsslError, match=words):
            run(load_experiment(tiny_config(**raw)), workspace, processes=2)


def test_a_job_without_memory_is_run_again_alone(tiny_config, workspace, monkeypatch, capsys):
    """Two have no room beside another one on a GPU; one of them has none alone either."""
    from medssl.experiment import jobs

    monkeypatch.setattr(jobs, "_attempt", has_no_room)
    arms = {"pixels": {"encoder": "pixels"}}
    raw = {"arms": arms, "budgets": [2], "draws": 3, "pretraining": {}, "baseline": "pixels", "claim": None}
    with pytest.raises(MedsslError, match=r"1 of 3 jobs failed.*draw 2: out of memory on cpu, alone too.*smaller size"):
        run(load_experiment(tiny_config(**raw)), workspace, processes=2)
    assert "2 job(s) found too little memory beside others" in capsys.readouterr().err
    table = Results.open(workspace.experiment("tiny")).jobs().set_index("draw")
    assert table["status"].to_dict() == {0: "done", 1: "done", 2: "failed"}
    for draw, tries in {0: 1, 1: 2, 2: 2}.items():  # a second one in the same process would find as little
        assert (workspace.path / f"tried_{draw}").read_text() == "." * tries


def has_no_room(job):
    """Draw 1 at first, draw 2 always."""
    from unittest import mock

    import torch

    from medssl.experiment import jobs  # in a worker of its own, where nothing is patched

    run_job, tries = jobs.run_job, job.out.parents[3] / f"tried_{job.draw}"

    def crowded(job):
        with tries.open("a") as file:
            file.write(".")
        if job.draw == 2 or (job.draw == 1 and tries.read_text() == "."):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return run_job(job)

    with mock.patch.object(jobs, "run_job", crowded):
        return jobs._attempt(job)


def kills_its_worker_late(job):
    if job.draw == 1:
        time.sleep(1)
    return kills_its_worker(job)


def kills_beside_a_slow_one(job):
    from medssl.experiment.jobs import _mark

    if job.draw == 1:
        while not list(job.out.parent.glob("*.running")) and not list(job.out.parent.glob("*.parquet")):
            time.sleep(0.01)
        return kills_its_worker(job)
    _mark(job).touch()
    time.sleep(2)
    return kills_its_worker(job)


def kills_its_worker(job):
    from medssl.experiment.jobs import _attempt, _mark  # in a worker of its own, where nothing is patched

    if job.budget == "2" and job.draw == 1:
        _mark(job).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _attempt(job)


def test_a_predictor_without_numbers_is_a_failed_job(tiny_config, workspace, monkeypatch):
    import numpy as np

    from medssl.transfer.fitted import Fitted

    monkeypatch.setattr(Fitted, "logits", lambda self, features: np.full((len(features), 2), np.nan))
    config = load_experiment(
        tiny_config(arms={"pixels": {"encoder": "pixels"}}, budgets=[2], pretraining={}, baseline="pixels", claim=None)
    )
    with pytest.raises(MedsslError, match="its training diverged"):
        run(config, workspace, processes=1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.pixels.pretrain_seeds=2", "not pretrained has no pretraining seeds"),
        ("claim.baseline=simclr", "with another one"),
        ("claim.margin=-1", "greater than 0"),
    ],
)
def test_bad_protocols_are_one_clear_message(tiny_config, override, message):
    with pytest.raises(UserError, match=message):
        load_experiment(tiny_config(), [override])


def test_arms_with_different_numbers_of_encoders_are_refused(tiny_config):
    arms = {"scratch": {}, "a": {"pretrain": "simclr", "pretrain_seeds": 2}, "b": {"pretrain": "simclr"}}
    three = {**arms, "c": {"pretrain": "simclr", "pretrain_seeds": 3}}
    load_experiment(tiny_config(arms=arms, baseline="scratch", claim=None))
    with pytest.raises(UserError, match="2 and 3 pretraining seeds"):
        load_experiment(tiny_config(arms=three, baseline="scratch", claim=None))


def test_a_test_part_without_a_class_is_refused(finished):
    from medssl.cohort import Cohort
    from medssl.experiment.labels import make_target
    from medssl.experiment.plan import _refuse_missing_class

    results, workspace = finished
    config, units = results.settings, Cohort.open(workspace.cohort("tiny")).units("label").assign(part="test")
    target = make_target(config.target, units["label"].tolist())
    _refuse_missing_class(units, config, target)
    astray = units.assign(part=units["label"].map({"calm": "test", "rough": "pool"}))
    with pytest.raises(UserError, match="no image of class 'rough'"):
        _refuse_missing_class(astray, config, target)


def test_an_official_split_in_the_label_table_is_honoured(tiny_source, tiny_raw, workspace, tmp_path):
    import shutil

    from medssl.config import Experiment, validate

    source = tmp_path / "official"
    shutil.copytree(tiny_source, source)
    lines = (source / "labels.csv").read_text().splitlines()
    parts = ["train"] * 40 + ["test"] * 32 + ["val"] * 8
    rows = [f"{line},{parts[int(line.split(',')[1][7:])]}" for line in lines[1:]]
    (source / "labels.csv").write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    raw = {**tiny_raw, "cohort": {**tiny_raw["cohort"], "source": str(source)}, "pretraining": {}, "claim": None}
    raw |= {"arms": {"pixels": {"encoder": "pixels"}}, "baseline": "pixels", "split": {"column": "split"}}
    results = run(validate(Experiment, raw, "tiny"), workspace, processes=1)
    sizes = {part: about["patients"] for part, about in results.facts["parts"].items()}
    assert sizes == {"pool": 40, "test": 32, "validation": 8}
    assert results.scores()["patients"].eq(32).all()


def test_one_site_is_left_out_of_everything(finished, tmp_path):
    import shutil
    import sqlite3

    from medssl.cohort import Cohort
    from medssl.workspace import Workspace

    workspace = Workspace(shutil.copytree(finished[1].path, tmp_path / "sites"))
    with sqlite3.connect(workspace.cohort("tiny") / "catalog.sqlite") as db:
        for number, (patient,) in enumerate(db.execute("SELECT DISTINCT patient FROM scans ORDER BY 1").fetchall()):
            db.execute("UPDATE scans SET vendor=? WHERE patient=?", ("one" if number % 3 else "two", patient))
    arms = {name: finished[0].settings.arms[name] for name in ("pixels", "simclr")}
    base = finished[0].settings.model_copy(update={"arms": arms, "baseline": ["pixels"], "claim": None})
    for site in ("one", "two"):
        split = base.split.model_copy(update={"column": "vendor", "hold_out": site})
        results = run(base.model_copy(update={"name": f"without_{site}", "split": split}), workspace, processes=1)
        scans = Cohort.open(workspace.cohort("tiny")).scans()
        at_site = set(scans.loc[scans["vendor"] == site, "patient"])
        assert set(results.evidence()["patient"]) == at_site
        keys = json.loads((results.path / "pretrained.json").read_text())
        learnt = json.loads((workspace.encoder(keys["simclr"]) / "patients.json").read_text())
        assert learnt and not set(learnt) & at_site
        assert all(check.passed for check in audit(results.path)), audit(results.path)
    assert len(list(workspace.cohort("tiny").glob("split*.json"))) == 3
    nowhere = base.split.model_copy(update={"column": "vendor", "hold_out": "twoo"})
    with pytest.raises(UserError, match="Did you mean 'two'"):
        run(base.model_copy(update={"name": "nowhere", "split": nowhere}), workspace, processes=1)


def test_what_can_be_detected_is_said_before_training(finished, capsys):
    from medssl.cohort import Cohort
    from medssl.experiment.plan import make_plan
    from medssl.experiment.power import foresee, foresee_sentence

    results, workspace = finished
    plan = make_plan(results.settings, Cohort.open(workspace.cohort("tiny")))
    found = foresee(plan)
    explored = results.differences().query("baseline == 'scratch' and metric == 'auc'")
    assert found["comparisons"] == int((~explored["claim"]).sum()) == 3 * 3 - 1
    test = plan.units[plan.units["part"] == "test"]
    assert found["patients"] == test.groupby("label")["patient"].nunique().min() and found["draws"] == 3
    assert 0 < found["claimed"] < found["explored"]
    assert f"{found['claimed']:.3f} named beforehand" in foresee_sentence(found)
    two = make_plan(results.settings.model_copy(update={"draws": 2}), plan.cohort)
    assert "no interval will be estimable" in foresee_sentence(foresee(two))
