import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from medssl.cohort import Cohort
from medssl.config import load_experiment
from medssl.errors import MedsslError, UserError
from medssl.experiment import Results, run, runner
from medssl.experiment.ledger import looks


def test_every_arm_budget_and_draw_leaves_evidence(finished):
    results, _ = finished
    evidence = results.evidence()
    assert results.complete and evidence["job"].nunique() == 4 * 3 * 3
    assert set(evidence["split"]) == {"test"} and set(evidence["cls"]) == {"calm", "rough"}
    columns = "job cohort arm budget draw run seed labels recipe split unit patient target cls truth score".split()
    assert set(evidence.columns) == set(columns)
    per_unit = evidence.groupby(["job", "unit"])
    assert (per_unit["score"].sum() - 1).abs().max() < 1e-5 and (per_unit["truth"].sum() == 1).all()


def test_test_patients_are_in_no_training_set(finished):
    results, _ = finished
    split = json.loads((results.path / "split.json").read_text())
    evidence = results.evidence()
    assert set(evidence["patient"]) == set(split["test"])
    assert not set(split["test"]) & (set(split["pool"]) | set(split["validation"]))
    budgets = json.loads((results.path / "budgets.json").read_text())
    trained = {unit for draw in budgets.values() for units in draw.values() for unit in units}
    assert trained and not trained & set(evidence["unit"])


def test_recipes_are_scored_on_validation_patients_with_the_test_split_shut(finished):
    results, workspace = finished
    before = len(looks(workspace.cohort("tiny")))
    arms = {name: results.settings.arms[name] for name in ("pixels", "random")}
    changes = {"evaluate": "validation", "name": "tuning", "arms": arms, "baseline": ["pixels"], "claim": None}
    tuned = run(results.settings.model_copy(update=changes), workspace, processes=1)
    evidence, split = tuned.evidence(), json.loads((tuned.path / "split.json").read_text())
    assert set(evidence["split"]) == {"validation"} and set(evidence["patient"]) == set(split["validation"])
    assert len(looks(workspace.cohort("tiny"))) == before
    assert any("validation patients" in note for note in tuned.notes)


def test_an_encoder_from_a_file_is_known_by_its_content(finished, tmp_path):
    from medssl.encoders import create_encoder, save_checkpoint
    from medssl.experiment.plan import make_plan
    from medssl.experiment.prepare import prepare_arm

    results, workspace = finished
    keys = []
    for seed in (1, 2):
        path = tmp_path / "weights.safetensors"
        save_checkpoint(path, create_encoder("small", seed=seed), {}, {})
        arm = results.settings.arms["random"].model_copy(update={"init": str(path)})
        cohort = Cohort.open(workspace.cohort("tiny"))
        plan = make_plan(results.settings.model_copy(update={"arms": {"file": arm}}), cohort)
        keys.append(prepare_arm("file", plan, workspace, {}, cohort.samples(results.settings.view))[1])
    assert keys[0] != keys[1] and not any(str(tmp_path) in key for key in keys)


def test_arms_share_draws_and_seeds(finished):
    evidence = finished[0].evidence()
    seeds = evidence.groupby(["budget", "draw"])["seed"].nunique()
    assert (seeds == 1).all()


def test_tables_have_the_keys_that_scripts_rely_on(finished):
    answer = finished[0].as_json()
    assert set(answer["scores"][0]) == set(
        "arm budget metric score low high draws pretrain_seeds units patients".split()
    )
    assert set(answer["differences"][0]) == set(
        "arm baseline budget metric difference low high p p_adjusted claim verdict pretrain_seeds same_encoder".split()
    )
    assert set(answer["savings"][0]) == set("arm baseline budget metric labels factor low high beyond".split())
    assert set(answer["shares"][0]) == set("arm budget metric share low high best most score".split())
    assert set(answer["curves"][0]) == set("arm metric area low high budget surely".split())
    assert {row["budget"] for row in answer["scores"]} == {2, 5, "all"}
    assert {row["metric"] for row in answer["scores"]} == {"auc", "accuracy"}
    json.dumps(answer, allow_nan=False)
    same = {(row["arm"], row["baseline"]): row["same_encoder"] for row in answer["differences"]}
    assert same["simclr", "scratch"] and not same["simclr", "pixels"]


def test_a_rerun_computes_nothing_and_says_the_same(finished):
    results, workspace = finished
    files = {f: f.stat().st_mtime_ns for f in (results.path / "results").iterdir()}
    again = run(results.settings, workspace, processes=1)
    assert {f: f.stat().st_mtime_ns for f in (results.path / "results").iterdir()} == files
    pd.testing.assert_frame_equal(again.scores(), results.scores())
    assert len(looks(workspace.cohort("tiny"))) == 1


def test_another_number_of_draws_reuses_the_old_ones(finished, tiny_config, tmp_path):
    results, workspace = finished
    before = {f.name for f in (results.path / "results").iterdir()}
    config = results.settings.model_copy(update={"draws": 4})
    more = run(config, workspace, processes=1)
    new = {f.name for f in (more.path / "results").iterdir()} - before
    assert len(new) == 4 * 3 and more.scores()["draws"].eq(4).all()
    run(results.settings, workspace, processes=1)  # and back, for the other tests
    assert Results.open(results.path).scores()["draws"].eq(3).all()


def test_until_a_changed_config_has_its_plan_jobs_of_the_old_one_do_not_count(finished, monkeypatch):
    """An arm that is gone, or whose recipe is another one, must not be shown under the new config."""
    results, workspace = finished
    seconds = results.jobs()["seconds"]

    def interrupt(plan, workspace):
        with pytest.raises(UserError, match="no job has finished yet"):
            Results.open(results.path).scores()
        raise KeyboardInterrupt

    arms = {name: arm for name, arm in results.settings.arms.items() if name != "random"}
    with monkeypatch.context() as patch:
        patch.setattr(runner, "pretrain_encoders", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(results.settings.model_copy(update={"arms": arms}), workspace, processes=1)
    again = run(results.settings, workspace, processes=1)  # nothing was lost
    assert again.complete and again.jobs()["seconds"].equals(seconds)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target.name=lable", "Did you mean 'label'"),
        ("budgets=[5, 500]", "patients in the pool, fewer than the budget of 500"),
        ("arms.random.strategy=prob", "Did you mean 'probe'"),
        ("pretraining.simclr.task=simclt", "Did you mean 'simclr'"),
        ("metrics=[auc, accurcy]", "Did you mean 'accuracy'"),
        ("cohort.source=nowhere", "does not exist"),
        ("arms.random.encoder=resnt18", "unknown encoder 'resnt18'"),
        ("arms.pixels.strategy=finetune", "'finetune' trains an encoder, and 'pixels' is none"),
        ("arms.scratch.size=8", "single point to the last stage of 'small', and arm 'scratch' needs 9"),
    ],
)
def test_bad_input_is_one_clear_message(tiny_config, workspace, override, message):
    config = load_experiment(tiny_config(), [override])
    with pytest.raises(UserError, match=message):
        run(config, workspace, processes=1)


def test_a_second_process_on_one_experiment_is_refused(finished):
    from medssl.workspace import lock

    results, workspace = finished
    with (
        lock(results.path, "running the experiment of", ""),
        pytest.raises(UserError, match="is running the experiment"),
    ):
        run(results.settings, workspace, processes=1)


def test_failed_jobs_are_named_and_the_others_kept(tiny_config, workspace, monkeypatch):
    from medssl.experiment import jobs

    real = jobs.run_job

    def breaks(job):
        if job.arm_name == "pixels" and job.draw == 1:
            raise RuntimeError("out of luck")
        return real(job)

    monkeypatch.setattr(jobs, "run_job", breaks)
    arms = {"pixels": {"encoder": "pixels"}, "random": {"encoder": "small"}}
    config = load_experiment(tiny_config(arms=arms, pretraining={}, baseline="pixels", claim=None))
    with pytest.raises(MedsslError, match=r"3 of 18 jobs failed.*pixels.*out of luck"):
        run(config, workspace, processes=1)
    monkeypatch.undo()
    partial = Results.open(workspace.experiment("tiny"))
    assert not partial.complete and "not finished" in " ".join(partial.notes)
    assert partial.scores()["score"].notna().all()
    assert run(config, workspace, processes=1).complete


def test_a_killed_run_goes_on_to_the_same_table(finished, tiny_config, tmp_path):
    """SIGKILL at three moments, each later than the last, then to the end."""
    config = tiny_config()
    place = tmp_path / "killed"
    command = [sys.executable, "-m", "medssl.cli", "run", str(config), "--workspace", str(place), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDSSL_WORKSPACE": ""}
    experiment = place / "experiments" / "tiny"
    moments = (
        lambda: (place / "cohorts" / "tiny" / "catalog.sqlite").exists(),
        lambda: any((place / "encoders").glob("*/run.json")),
        lambda: len(list((experiment / "results").glob("*.parquet"))) >= 5,
    )
    for reached in moments:
        log = (tmp_path / "log.txt").open("w")
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not reached():
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    expected = finished[0].as_json()
    assert answer["scores"] == expected["scores"] and answer["differences"] == expected["differences"]
