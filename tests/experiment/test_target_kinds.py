"""The whole way with each kind of target: run, tables, verdicts, audit, and a predictor that says the same."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from medssl.config import Experiment, load_experiment, validate
from medssl.errors import UserError
from medssl.experiment import Results, run
from medssl.experiment.audit import audit
from medssl.experiment.predictor import refit
from medssl.figures import metric_name
from medssl.metrics import FAMILIES
from medssl.report import render_report
from medssl.workspace import Workspace

PATIENTS, IMAGES = 70, 2
TARGETS = {
    "multilabel": (
        {"name": "findings", "kind": {"name": "multilabel", "imbalance": "balanced"}},
        ["brier", "auc", "average_precision"],
    ),
    "columns": ({"name": "both", "kind": "multilabel", "columns": ["bright", "striped"]}, ["brier", "accuracy"]),
    "ordinal": ({"name": "grade", "kind": "ordinal"}, ["kappa", "mae", "auc"]),
    "regression": ({"name": "level", "kind": "regression", "unit": "patient"}, ["mae", "r2", "spearman"]),
}
ARMS = {
    "blind": {"encoder": "pixels", "strategy": {"name": "probe", "penalty": 1e6}},
    "pixels": {"encoder": "pixels"},
    "scratch": {"strategy": {"name": "finetune", "min_steps": 3, "batch": 8, "epochs": 0.1}},
}
LOWER = {"mae", "brier"}
RANKS = {"auc", "average_precision", "spearman"}  # blind as it is, an arm may still have an order


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """make(case, **changes) -> the config of a small cohort: images whose left part is as bright as `level`, and that
    have a dark bar where they are `striped`."""
    folder = tmp_path_factory.mktemp("kinds") / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,patient,findings,bright,striped,grade,level"]
    for patient in range(PATIENTS):
        level, striped = rng.uniform(0, 100), int(rng.random() < 0.3)
        bright, grade = int(level > 60), int(level // 34)
        found = [name for name, there in (("bright", bright), ("striped", striped)) if there]
        for image in range(IMAGES):
            blobs = np.kron(rng.normal(size=(8, 8)), np.ones((4, 4)))  # else all would be near duplicates
            gray = 90 + 25 * blobs + 12 * rng.normal(size=(32, 32))
            gray[:, :16] += level / 2
            gray[8:16, 16:] -= 60 * striped
            Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8)).save(folder / f"scan_{patient}_{image}.png")
            cells = [f"scan_{patient}_{image}.png", f"PATIENT{patient}", "|".join(found) or "no finding"]
            lines.append(",".join([*cells, str(bright), str(striped), str(grade), f"{level:.2f}"]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")

    def make(case, **changes):
        target, metrics = TARGETS.get(case, ({"name": case}, ["auc"]))
        raw = {
            "name": case,
            "cohort": {
                "name": "kinds",
                "source": str(folder),
                "labels": {"file": "labels.csv", "scan": "file", "patient": "patient"},
            },
            "target": target,
            "view": {"size": 32},
            "split": {"test": 0.5, "validation": 0.1},
            "budgets": [8, 16, "all"],
            "per": "total",
            "draws": 3,
            "replicates": 200,
            "metrics": metrics,
            "arms": ARMS,
            "baseline": "blind",
            "claim": {"arm": "pixels", "baseline": "blind", "budget": 16, "metric": metrics[0]},
        }
        return validate(Experiment, raw | changes, case)

    return make


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("kinds_workspace"))


@pytest.mark.parametrize("case", TARGETS)
def test_each_kind_goes_the_whole_way(config, workspace, case, tmp_path):
    results = run(config(case), workspace, processes=1)
    metrics = TARGETS[case][1]
    scores = results.scores().set_index(["arm", "budget", "metric"])
    for metric in metrics:
        blind, seeing = scores.loc[("blind", "all", metric)], scores.loc[("pixels", "all", metric)]
        assert seeing["low"] < seeing["score"] < seeing["high"]
        assert metric in RANKS or (seeing["score"] < blind["score"]) == (metric in LOWER), metric
    row = results.differences().query("claim").iloc[0]
    assert row["verdict"] == "helps" and (row["difference"] < 0) == (row["metric"] in LOWER)
    said = " ".join(results.verdicts()["sentence"])
    assert "pixels helps over blind" in said and "a class" not in said
    saved = results.savings()
    assert set(saved["arm"]) >= {"pixels"} and (saved.query("arm == 'pixels'")["factor"] > 0.99).all()
    shares = results.shares()
    assert (
        shares.empty == (metrics[0] in LOWER) and set(shares["best"]) <= {"pixels"} and set(shares["most"]) <= {"all"}
    )
    budgets = json.loads((results.path / "budgets.json").read_text())
    assert all(len(set(draw["16"])) == 16 and set(draw["8"]) < set(draw["16"]) for draw in budgets.values())
    assert [check.name for check in audit(results.path) if not check.passed] == []
    page = render_report(results)
    assert metric_name(metrics[0]) in page and FAMILIES[results.family].group_words in page
    same = Results.open(results.path)
    assert same.scores().equals(results.scores())


@pytest.mark.parametrize("case", TARGETS)
def test_a_predictor_says_what_its_job_said(config, workspace, case, tmp_path):
    from medssl.experiment.predictor import Predictor
    from medssl.report import write_predictor

    results = run(config(case), workspace, processes=1)
    write_predictor(results.path, "pixels", tmp_path / "taken")
    predictor = Predictor.load(tmp_path / "taken")
    units = predictor.predictions(workspace.cohort("kinds")).units.set_index("unit")
    recorded = results.evidence().query("arm == 'pixels' and budget == 'all' and draw == 0")
    for name, column in recorded.groupby("cls"):
        found = units.loc[column["unit"], f"score_{name}"].to_numpy()
        assert np.allclose(found, column["score"], atol=1e-5)
    card = (tmp_path / "taken" / "card.md").read_text()
    if case == "regression":
        assert np.allclose(units["predicted"], units["score_value"]) and "as a number" in card
        with pytest.raises(UserError, match="has no probability"):
            predictor.predict_proba(workspace.cohort("kinds"))
    elif case == "ordinal":
        assert set(units["predicted"]) <= {"0", "1", "2"} and "lowest first" in card
    else:
        assert set(units["predicted"]) <= {"no finding", "bright", "striped", "bright|striped"}
        assert predictor.predict_proba(workspace.cohort("kinds")).shape[1] == 2


def test_calibrated_figures_come_from_validation_labels(config, workspace):
    chosen = {"cohort": config("bright").cohort.model_dump() | {"name": "more"}, "name": "warm"}
    split = {"test": 0.4, "validation": 0.4}
    metrics = ["auc", "brier", "calibrated_brier", "ece", "calibrated_ece"]
    arms = {"pixels": {"encoder": "pixels", "strategy": {"name": "probe", "penalty": 1e-4}}}
    plain = {"baseline": "pixels", "claim": None, "arms": arms, "budgets": ["all"], "split": split}
    results = run(config("bright", **chosen, **plain, metrics=metrics), workspace, processes=1)
    temperature = results.evidence()["temperature"]
    assert (temperature > 1.2).all()  # so weak a penalty makes a probe too sure of itself
    evidence, first = results.arrays, temperature.iloc[0]
    assert refit(results, "pixels").about.calibration.temperature == pytest.approx(first, rel=1e-4)
    odds = np.log(evidence.scores["pixels", "all"][0, 0] + 1e-30) / first
    chance = np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    wanted = ((chance - np.eye(2)[evidence.truth]) ** 2).sum(1).mean()
    scores = results.scores().set_index("metric")["score"]
    assert scores["calibrated_brier"] == pytest.approx(wanted, abs=1e-4) != pytest.approx(scores["brier"], abs=1e-4)
    assert results.scores().set_index("metric").loc["calibrated_brier", "low"] > 0
    assert any("temperature" in note and "validation" in note for note in results.notes)
    assert not any("no validation labels" in note for note in results.notes)
    few = {**plain, "split": {"test": 0.5, "validation": 0.1}, "metrics": metrics}
    with pytest.raises(UserError, match="calibration needs 20 validation images of a class"):
        run(config("striped", name="few", **few), workspace)
    with pytest.raises(UserError, match="cannot be calibrated on"):
        run(config("striped", **chosen, **plain, metrics=metrics, evaluate="validation"), workspace)


@pytest.mark.parametrize("case", ["multilabel", "ordinal", "regression"])
def test_each_kind_is_tuned_and_taught_by_other_labels_of_other_kinds(config, workspace, case):
    """Other labels of the own cohort: a number in advance, grades jointly."""
    chosen = {"cohort": config(case).cohort.model_dump() | {"name": "larger"}, "name": f"{case}_tuned"}
    number, grades = {"name": "level", "kind": "regression"}, {"name": "grade", "kind": "ordinal"}
    if case == "ordinal":
        grades = {"name": "findings", "kind": "multilabel"}
    if case == "regression":
        number = {"name": "striped", "kind": {"name": "classification", "imbalance": "balanced"}}
    few = {"min_steps": 3, "batch": 8, "epochs": 0.1}
    changes = {
        "target": TARGETS[case][0] | {"unit": "image"},
        "split": {"test": 0.3, "validation": 0},
        "budgets": [8, "all"],
        "draws": 2,
        "tuning": {"trials": 2},
        "others": {"before": {"target": number}, "beside": {"target": grades}},
        "pretraining": {"first": {"task": "supervised", "other": "before", "steps": 2, "batch": 16}},
        "arms": {
            "blind": {"encoder": "pixels", "strategy": {"name": "probe", "penalty": 1e6}, "grid": [{"penalty": 1}]},
            "joint": {"jointly": "beside", "strategy": {"name": "joint", "others": 8, **few}},
            "first": {"pretrain": "first"},
        },
        "claim": None,
    }
    results = run(config(case, **chosen, **changes), workspace, processes=1)
    trials = results.trials()
    assert results.complete and results.tuned_budgets == ["all"] and len(trials) == 3 * 2 * 2
    assert (trials.query("arm == 'blind' and chosen")["settings"].map(bool)).all()  # a penalty that lets it see
    word = {"multilabel": "with and without every label", "ordinal": "of every grade", "regression": "of every range"}
    assert any(f"do not hold 20 images {word[case]}" in note for note in results.notes)
    assert {row["other_labels"] for row in results.as_json()["ways"]} == {
        0,
        results.facts["others"]["beside"]["labels"],
    }
    tells = {name: other["tells"] for name, other in results.facts["others"].items()}
    assert (tells["beside"] is None) == (case != "regression") and (tells["before"] is None) == (case == "multilabel")
    assert [check.name for check in audit(results.path) if not check.passed] == []


@pytest.mark.parametrize(
    ("case", "changes", "says"),
    [
        (
            "regression",
            {"arms": ARMS | {"near": {"strategy": "neighbours"}}},
            r"arms.near.strategy: 'neighbours' gives",
        ),
        (
            "ordinal",
            {"arms": ARMS | {"x": {"strategy": {"name": "distill", "teacher": "ridge"}}}},
            r"arms.x.strategy: 'distill'",
        ),
        (
            "bright",
            {
                "target": {"name": "bright", "kind": {"name": "classification", "imbalance": "balanced"}},
                "arms": ARMS | {"x": {"strategy": {"name": "pseudo_labels", "predictor": "ridge"}}},
            },
            r"arms.x.strategy.predictor: 'ridge' learns without the loss",
        ),
        (
            "bright",
            {
                "target": {"name": "bright", "kind": {"name": "classification", "imbalance": "balanced"}},
                "arms": {
                    "x": {
                        "encoder": "pixels",
                        "strategy": {"name": "pseudo_labels", "predictor": "probe"},
                        "grid": [{"predictor": "ridge"}],
                    }
                },
                "baseline": "x",
                "tuning": {"trials": 2},
            },
            r"arms.x.grid.predictor: 'ridge' learns without the loss",
        ),
        (
            "columns",
            {"others": {"same": {"target": {"name": "bright"}}}},
            r"these labels are what the budgets count out",
        ),
        (
            "columns",
            {"target": {"name": "x", "kind": "multilabel", "columns": ["bright", "No Finding"]}},
            r"no label beside the others, but the want of them",
        ),
        ("multilabel", {"per": "class"}, r"per: total"),
        ("regression", {"metrics": ["accuracy"], "claim": None}, r"unknown metric of a target of kind regression"),
        ("regression", {"budgets": [2, 16]}, r"cannot hold one unit of each of 3"),
        ("multilabel", {"split": {"folds": 3}, "draws": 15, "cohort": {"name": "other"}}, r"several labels"),
        ("grade", {"target": {"name": "grade", "columns": ["bright"]}}, r"kind classification is one label"),
        ("grade", {"target": {"name": "x", "kind": "multilabel", "columns": ["grade"]}}, r"other values than 1 and 0"),
        ("grade", {"target": {"name": "findings", "kind": "regression"}}, r"no numbers"),
        ("grade", {"target": {"name": "grade", "kind": "ordinale"}}, r"unknown kind of target 'ordinale'"),
        ("grade", {"target": {"name": "grade", "kind": {"name": "ordinal", "grade": []}}}, r"unknown key"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(config, workspace, case, changes, says):
    if "cohort" in changes:
        changes = changes | {"cohort": config(case).cohort.model_dump() | changes["cohort"]}
    with pytest.raises(UserError, match=says):
        run(config(case, **{"name": "refused", "claim": None} | changes), workspace)
    assert not (workspace.experiment("refused") / "results").exists()


@pytest.mark.parametrize("case", ["ordinal", "regression"])
def test_grades_and_numbers_can_be_cross_fitted(config, workspace, case):
    chosen = config(case).model_dump(exclude={"draws"})
    chosen["cohort"]["name"] = "folded"
    metrics = ["mae", "kappa", "auc"] if case == "ordinal" else ["mae", "rmse"]
    target = {**chosen["target"], "unit": "image"}
    chosen |= {"split": {"folds": 3, "repeats": 3}, "budgets": ["all"], "metrics": metrics, "name": f"{case}_folds"}
    chosen |= {"target": target, "claim": None, "arms": {name: ARMS[name] for name in ("blind", "pixels")}}
    results = run(validate(Experiment, chosen, "folds"), workspace, processes=1)
    scores = results.scores().set_index(["arm", "metric"])
    assert scores.loc[("pixels", "mae"), "high"] < scores.loc[("blind", "mae"), "score"]
    assert [check.name for check in audit(results.path) if not check.passed] == []


def test_a_config_says_its_kind_in_yaml(config, tmp_path):
    raw = config("ordinal").model_dump(mode="json")
    raw["target"]["kind"] = {"name": "ordinal", "grades": [0, 1, 2], "imbalance": "focal"}
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(raw))
    found = load_experiment(tmp_path / "ours.yaml", ["target.unit=patient"]).target
    assert found.kind_name == "ordinal" and found.unit == "patient"
    assert found.kind_settings == {"grades": [0, 1, 2], "imbalance": "focal"}
