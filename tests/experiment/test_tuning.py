"""Recipes are chosen inside the budget, by its own labels, with as many trials for every arm."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medssl.cohort import Cohort
from medssl.config import Experiment, load_experiment, validate
from medssl.errors import MedsslError, UserError
from medssl.experiment import Results, audit, run
from medssl.experiment.plan import list_jobs, make_plan
from medssl.experiment.predictor import refit
from medssl.experiment.runner import preview
from medssl.experiment.tuning import held_out, hold_out, recipes, try_recipes, words
from medssl.report import write_predictor, write_report
from medssl.transfer import Problem, strategy, target_kind

TUNED = {
    "name": "tuned",
    "budgets": [2, 20, "all"],
    "draws": 2,
    "metrics": ["brier", "auc"],
    "tuning": {"trials": 3},
    "pretraining": {},
    "arms": {
        "pixels": {"encoder": "pixels", "strategy": {"name": "probe", "penalty": 50.0}},
        "radiomics": {"encoder": "radiomics", "strategy": "gradient_boosting", "grid": [{"rounds": 5}, {"depth": 1}]},
    },
    "baseline": ["pixels"],
    "claim": None,
}


@pytest.fixture(scope="module")
def tuned(finished):
    results, workspace = finished
    raw = results.settings.model_dump(mode="json") | TUNED
    return run(validate(Experiment, raw, "tuned"), workspace, processes=1), workspace


def test_budgets_of_20_a_class_try_recipes_and_smaller_ones_do_not(tuned):
    results, _ = tuned
    trials = results.trials()
    assert set(trials["budget"]) == {20, "all"} and results.tuned_budgets == [20, "all"]
    assert len(trials) == 2 * 2 * 2 * 3  # arms, budgets, draws, trials
    by_job = trials.groupby(["arm", "budget", "draw", "run"])
    assert (by_job["chosen"].sum() == 1).all() and (by_job.size() == 3).all()
    assert trials["score"].between(0, 2).all() and set(trials["metric"]) == {"brier"}
    settings = trials[(trials["arm"] == "radiomics") & (trials["budget"] == 20) & (trials["draw"] == 0)]["settings"]
    assert settings.tolist() == [{}, {"rounds": 5}, {"depth": 1}]
    for _, job in by_job:
        best = job["score"].min()  # a loss
        assert job.loc[job["score"] == best, "trial"].iloc[0] == job.loc[job["chosen"], "trial"].item()


def test_a_quarter_of_each_class_chooses_the_same_for_all_arms_and_patients_stay_whole(tuned):
    results, _ = tuned
    held, budgets = (json.loads((results.path / f"{name}.json").read_text()) for name in ("validation", "budgets"))
    assert set(held) == {"0", "1"} and set(held["0"]) == {"20", "all"}
    assert len(held["0"]["20"]) == 10 and set(held["0"]["20"]) < set(budgets["0"]["20"])
    assert held["0"]["all"] != held["1"]["all"]  # another draw holds out others
    scans = Cohort.open(results.cohort_folder).scans()
    owner = dict(zip(scans["scan"], scans["patient"], strict=True))
    apart = {owner[unit] for unit in set(budgets["0"]["all"]) - set(held["0"]["all"])}
    assert len(held["0"]["all"]) == 20 and not apart & {owner[unit] for unit in held["0"]["all"]}
    assert (results.trials().query("budget == 20")["validation"] == 10).all()
    assert {check.name: check.passed for check in audit(results.path)}["trials"]


def test_the_chosen_recipe_is_fitted_on_the_whole_budget(tuned):
    """The evidence of a tuned job is that of the same arm with the chosen recipe as its own and without tuning."""
    results, workspace = tuned
    job = results.trials().query("arm == 'pixels' and budget == 20 and draw == 1 and chosen").iloc[0]
    assert job["settings"]  # the arm's own penalty of 50 is far too large
    arm = {"encoder": "pixels", "strategy": {"name": "probe", **job["settings"]}}
    raw = results.settings.model_dump(mode="json") | {"name": "fixed", "tuning": None, "arms": {"pixels": arm}}
    fixed = run(validate(Experiment, raw, "fixed"), workspace, processes=1)
    pick = "arm == 'pixels' and budget == '20' and draw == 1"
    scores = [one.evidence().query(pick)["score"].to_numpy() for one in (results, fixed)]
    assert len(scores[0]) and np.array_equal(*scores)


def test_jobs_below_20_are_the_same_as_without_tuning(tuned):
    settings, keys = tuned[0].settings, []
    for tuning in (settings.tuning, None):
        plan = make_plan(settings.model_copy(update={"tuning": tuning}), Cohort.open(tuned[0].cohort_folder))
        jobs = list_jobs(plan, {arm: ["encoder"] for arm in settings.arms}, dict.fromkeys(settings.arms, "samples"))
        keys.append({(job.arm, job.budget, job.draw): job.key for job in jobs})
    same = [place for place, key in keys[0].items() if keys[1][place] == key]
    assert len(same) == 4 and {budget for _, budget, _ in same} == {2}


def test_trials_survive_a_rerun_and_a_lost_job(tuned):
    results, workspace = tuned
    files = {file: file.stat().st_mtime_ns for file in results.files()}
    again = run(results.settings, workspace, processes=1)
    assert {file: file.stat().st_mtime_ns for file in again.files()} == files
    pd.testing.assert_frame_equal(Results.open(again.path).trials(), results.trials())
    before = results.trials()
    results.files()[-1].unlink()
    pd.testing.assert_frame_equal(run(results.settings, workspace, processes=1).trials(), before)


def test_the_report_the_notes_and_the_plan_say_what_was_tried(tuned, tmp_path):
    results, workspace = tuned
    text = write_report(results, tmp_path / "report.html").read_text()
    assert "Recipes that were tried" in text and "penalty 0.02" in text and " of 2<small>" in text
    assert "every arm tries 3 recipes in each job on 25 % of the budget’s own labels" in text
    assert any("With 20 and all labels each job chose among 3 recipes" in note for note in results.notes)
    about, words = preview(results.settings, workspace)
    assert about["tuning"] == {"trials": 3, "budgets": [20, "all"], "fits": 4 + 4 * (1 + 3) + 4 * (1 + 3)}
    assert "12 jobs" in words and "36 fits: with 20 and all labels each job tries 3 recipes on 25 % of" in words
    assert len(results.as_json()["trials"]) == 24


def test_a_planted_trial_is_found_by_the_audit(tuned, tmp_path):
    _, workspace = tuned
    place = shutil.copytree(workspace.path, tmp_path / "copy") / "experiments" / "tuned"
    held = json.loads((place / "validation.json").read_text())
    budgets = json.loads((place / "budgets.json").read_text())
    held["0"]["20"] = [*held["0"]["20"][1:], next(u for u in budgets["0"]["all"] if u not in budgets["0"]["20"])]
    (place / "validation.json").write_text(json.dumps(held))
    assert [check.name for check in audit(place) if not check.passed] == ["trials"]


def test_a_predictor_is_tuned_as_its_job_was(tuned, tmp_path):
    results, workspace = tuned
    job = results.trials().query("arm == 'pixels' and budget == 20 and draw == 0 and chosen").iloc[0]
    predictor = refit(results, "pixels", budget=20)
    assert predictor.about.recipe["chosen"] == job["settings"]
    found = predictor.predictions(results.cohort_folder, workspace).units.set_index("unit")["score_rough"]
    truth = results.evidence().query("arm == 'pixels' and budget == '20' and draw == 0 and cls == 'rough'")
    assert found.reindex(truth["unit"]).to_numpy() == pytest.approx(truth["score"].to_numpy(), abs=1e-5)
    write_predictor(results.path, "pixels", tmp_path / "taken", budget=20)
    assert f"tuned by a part of its own labels: {words(job['settings'])}" in (tmp_path / "taken/card.md").read_text()
    every = refit(results, "pixels", all_labels=True)
    assert every.about.labels.units == 160 and "chosen" in every.about.recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tuning={trials: 5}"], r"has 4 recipe\(s\), and every arm gets 5 trials"),
        (
            ["arms.pixels.grid=[{penalty: 0.2}]"],
            r"has 1 recipe\(s\), and every arm gets 3 trials(.|\n)*at least 2 recipes",
        ),
        (["arms.pixels.grid=[{penalti: 1}, {penalty: 2}]"], "Did you mean 'penalty'"),
        (["tuning={trials: 1}"], "greater than or equal to 2"),
        (["tuning=null", "arms.pixels.grid=[{penalty: 2}]"], "only tried where the experiment has tuning"),
    ],
)
def test_a_grid_that_is_too_small_or_wrong_is_refused_with_the_fix(tiny_config, workspace, overrides, message):
    arms = {"pixels": {"encoder": "pixels"}}
    raw = {"arms": arms, "baseline": "pixels", "claim": None, "pretraining": {}, "tuning": {"trials": 3}}
    with pytest.raises(UserError, match=message):
        run(load_experiment(tiny_config(**raw), overrides), workspace, processes=1)


def test_every_shipped_strategy_has_a_grid_for_four_trials():
    from medssl.config import Arm, Tuning
    from medssl.transfer import strategies

    for name in strategies():
        found = recipes(name, Arm(strategy=name), Tuning(trials=4))
        assert found[0] == {} and len(found) == 4


def test_who_is_held_out():
    train = [f"u{i}" for i in range(60)]
    classes = {unit: ("ab"[i % 3 == 0],) for i, unit in enumerate(train)}
    owner = {unit: i // 6 for i, unit in enumerate(train)}  # ten patients with four of a and two of b
    held = hold_out(train, classes, owner, 0.25, seed=1)
    assert {owner[u] for u in held}.isdisjoint({owner[u] for u in train if u not in held})
    counts = pd.Series([classes[u][0] for u in held]).value_counts().to_dict()
    assert (
        counts == {"a": 8, "b": 4} == {"a": 2 * 4, "b": 2 * 2}
    )  # a quarter would be 10 and 5: whole patients fit below
    assert held == hold_out(train, classes, owner, 0.25, seed=1) != hold_out(train, classes, owner, 0.25, seed=2)
    two = {unit: i % 2 for i, unit in enumerate(train)}  # each larger than a quarter: one of them has to go
    assert {two[u] for u in hold_out(train, classes, two, 0.25, 0)} in ({0}, {1})
    with pytest.raises(UserError, match="class 'a' in a budget cannot be parted"):
        hold_out(train, classes, dict.fromkeys(train, 0), 0.25, 0)


def held_of(kind, labels, budget, per="total"):
    """Units that choose, of one draw of a budget of the first units."""
    target = target_kind(kind, labels)
    units = pd.DataFrame({"unit": [f"u{i}" for i in range(len(labels))], "label": labels})
    units["patient"] = units["unit"]
    raw = {"target": {"name": "x", "kind": kind}, "budgets": [budget], "metrics": ["mae"], "per": per}
    arms = {"pixels": {"encoder": "pixels"}}
    raw |= {"name": "kinds", "cohort": {"name": "c", "source": "s"}, "view": {"size": 32}, "draws": 1, "arms": arms}
    config = validate(Experiment, {**raw, "baseline": "pixels", "tuning": {"trials": 2}}, "kinds")
    train = {0: {budget: units["unit"].tolist()[:budget]}}
    held = held_out(config, units, train, {p: i for i, p in enumerate(units["patient"])}, target)
    return [labels[int(unit[1:])] for unit in held.get(0, {}).get(budget, ())]


def test_each_kind_of_target_holds_out_a_quarter_of_what_stands_for_its_classes():
    numbers = [f"{(37 * i) % 60}" for i in range(60)]
    values = np.array(held_of("regression", numbers, 60), float)
    assert np.histogram(values, [0, 20, 40, 60])[0].tolist() == [5, 5, 5]
    assert held_of("regression", numbers, 54) == []  # of some third there are fewer than 20
    grades = pd.Series(held_of("ordinal", ["0", "1", "2"] * 20, 60)).value_counts().to_dict()
    assert grades == {"0": 5, "1": 5, "2": 5}
    findings = ["a|b", "a", "b", "no finding"] * 20
    held = held_of("multilabel", findings, 80)
    for name in "ab":  # with and without each label
        there = sum(name in label.split("|") for label in held)
        assert 1 <= there <= 10 and 1 <= len(held) - there <= 10
    assert len(held) > 10
    assert held_of("multilabel", ["a|b", "a"] * 20 + ["a"] * 20 + ["no finding"] * 19, 79) == []


def test_a_recipe_for_numbers_is_scored_by_a_metric_of_numbers():
    """What is held out teaches neither the model nor where the numbers lie."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    truth = 50 + 10.0 * x[:, 0]
    truth[:6] += 1000
    target = target_kind("regression", [str(value) for value in truth]).taught(truth)
    problem = Problem(
        target, np.arange(60), truth, np.arange(60), np.arange(60),
        np.zeros((60, 1, 8, 8), np.uint8), lambda: x, lambda seed: None, "OT", 0,
    )  # fmt: skip
    seen = []

    class Probe:
        def __init__(self, penalty):
            self.method = strategy("probe", {"penalty": penalty})

        def fit(self, problem):
            seen.append(problem.target.learnt()["centre"])
            return self.method.fit(problem)

    trials = try_recipes(problem, [Probe(1e6), Probe(1e-3)], [{}, {"penalty": 1e-3}], np.arange(6), "mae")
    assert seen == [pytest.approx(truth[6:].mean())] * 2
    assert all(trial.score == pytest.approx(1000, abs=20) for trial in trials)
    near = replace(problem, train=np.arange(6, 60), truth=truth[6:])
    trials = try_recipes(near, [Probe(1e6), Probe(1e-3)], [{}, {"penalty": 1e-3}], np.arange(6, 20), "mae")
    assert [trial.chosen for trial in trials] == [False, True] and trials[1].score < 1 < trials[0].score


def test_a_recipe_that_diverges_is_never_chosen_and_of_equals_the_first_is():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    truth = np.arange(40) % 2
    x[:, 0] += 6 * truth
    problem = Problem(
        target_kind("classification", ["no", "yes"]), np.arange(40), truth, np.arange(40), np.arange(40),
        np.zeros((40, 1, 8, 8), np.uint8), lambda: x, lambda seed: None, "OT", 0,
    )  # fmt: skip
    held = np.array([0, 1, 2, 3])

    class Diverges:
        def fit(self, problem):
            assert not np.isin(held, problem.train).any() and len(problem.train) == 36
            raise MedsslError("no solution")

    good = strategy("probe")
    trials = try_recipes(problem, [Diverges(), good, good], [{"a": 1}, {}, {"b": 2}], held, "auc")
    assert [(t.score, t.chosen) for t in trials] == [(None, False), (1.0, True), (1.0, False)]
    assert [
        t.chosen for t in try_recipes(problem, [good, strategy("probe", {"penalty": 99.0})], [{}, {}], held, "brier")
    ] == [True, False]
    with pytest.raises(MedsslError, match="all trainings diverged"):
        try_recipes(problem, [Diverges()], [{}], held, "auc")
