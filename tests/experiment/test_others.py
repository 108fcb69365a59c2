"""Other cohorts and targets: who may teach, what is learnt, when it is learnt again, and what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medssl.cohort import Cohort
from medssl.config import Experiment, Other, Target, validate
from medssl.errors import UserError
from medssl.experiment import Results, audit, run
from medssl.experiment.labels import make_target
from medssl.experiment.others import mapped
from medssl.experiment.plan import list_jobs, make_plan
from medssl.experiment.prepare import open_others
from medssl.experiment.pretraining import encoder_key
from medssl.report import render_report, terminal_table
from medssl.workspace import Workspace

FEW = {"min_steps": 2, "batch": 4, "epochs": 0.1}
TAUGHT = 36  # patients of the other cohort, without those who are copied


def make_other(folder, tested=(), copy=None, names=("calm", "rough")):
    """36 patients of the same two textures, brighter on one side; and who is in `tested`.

    With `copy`, a stranger who has that picture and another one, which his kin has too.
    """
    folder.mkdir()
    rng = np.random.default_rng(5)
    lines = ["file,patient,label,side"]
    for number, patient in enumerate([f"OTHER{n}" for n in range(TAUGHT)] + list(tested)):
        grid = rng.normal(size=(32, 32)) if number % 2 else np.repeat(rng.normal(size=(32, 8)), 4, 1)
        grid[:, slice(0, 8) if number % 3 else slice(24, 32)] += 2
        Image.fromarray(np.clip(125 + 25 * grid, 0, 255).astype(np.uint8)).save(folder / f"o{number}.png")
        lines.append(f"o{number}.png,{patient},{names[number % 2]},{'left' if number % 3 else 'right'}")
    if copy is not None:
        Image.fromarray(copy).save(folder / "copied.png")
        shared = np.clip(125 + 40 * rng.normal(size=(32, 32)), 0, 255).astype(np.uint8)
        for name in ("his", "kins"):
            Image.fromarray(shared).save(folder / f"{name}.png")
        lines += ["copied.png,STRANGER,calm,left", "his.png,STRANGER,calm,left", "kins.png,KIN,calm,left"]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def source(folder, **labels):
    return {
        "name": "other",
        "source": str(folder),
        "labels": {"file": "labels.csv", "scan": "file", "patient": "patient", **labels},
    }


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A copy of the finished workspace, and a tested picture of its cohort."""
    return Workspace(shutil.copytree(finished[1].path, tmp_path_factory.mktemp("others") / "workspace"))


@pytest.fixture
def raw(tiny_raw):
    """A config with one other cohort, to be given arms."""

    def make(folder, others=None, **changes):
        named = {"same": {"cohort": source(folder)}} if others is None else others
        arms = {"scratch": {"strategy": {"name": "finetune", **FEW}}, **changes.pop("arms", {})}
        few = {"name": "paths", "budgets": [2, 5], "draws": 1, "pretraining": {}, "baseline": "scratch", "claim": None}
        return {**tiny_raw, **few, "others": named, "arms": arms, **changes}

    return make


def plan_of(raw, workspace):
    config = validate(Experiment, raw, "paths")
    return make_plan(config, Cohort.open(workspace.cohort("tiny")), (), open_others(config, workspace))


@pytest.fixture(scope="module")
def ran(place, tiny_raw, tmp_path_factory):
    """One experiment with an arm of each kind."""
    cohort = Cohort.open(place.cohort("tiny"))
    test = json.loads((place.experiment("tiny") / "split.json").read_text())["test"]
    scans = cohort.scans()
    copy = np.array(cohort.array(scans.loc[scans["patient"] == test[0], "scan"].iloc[0]))
    folder = make_other(tmp_path_factory.mktemp("there") / "other", [f"PATIENT{n}" for n in range(80)], copy)
    joint = {"name": "joint", "others": 8, **FEW}
    config = {
        **tiny_raw,
        "name": "paths",
        "budgets": [2, 5],
        "draws": 3,
        "others": {
            "same": {"cohort": source(folder)},
            "side": {"cohort": source(folder), "target": {"name": "side"}},
        },
        "pretraining": {
            "labels_there": {"task": "supervised", "other": "same", "steps": 4, "batch": 16},
            "simclr_there": {"task": "simclr", "other": "same", "steps": 2, "batch": 16},
        },
        "arms": {
            "scratch": {"strategy": {"name": "finetune", **FEW}},
            "transferred": {"pretrain": "labels_there"},
            "simclr_there": {"pretrain": "simclr_there"},
            "merged": {"jointly": "same", "strategy": joint},
            "two_heads": {"jointly": "side", "strategy": joint},
        },
        "baseline": "scratch",
        "claim": None,
    }
    return run(validate(Experiment, config, "paths"), place, processes=1), config


def test_every_arm_is_scored_and_its_way_is_shown(ran):
    results, _ = ran
    assert set(results.evidence()["arm"]) == set(results.settings.arms)
    ways = results.ways().set_index("arm")
    assert ways.loc["merged", "way"] == "same task, other domain, jointly"
    assert ways.loc["two_heads", "way"] == "other task, other domain, jointly"
    assert ways.loc["transferred", "way"] == "same task, other domain, in sequence"
    labels = results.facts["others"]["same"]["labels"]
    assert ways["other_labels"].to_dict() == {
        "scratch": 0, "transferred": labels, "simclr_there": 0, "merged": labels, "two_heads": labels,
    }  # fmt: skip
    page, text = render_report(results), terminal_table(results)
    assert page.count("same task, other domain, jointly") >= 3 and f"<td>{labels}</td>" in page
    assert f"merged: labels of label in other ({labels} other labels)" in " ".join(text.split())
    assert any(f"'same' is {labels} labels" in note and "kept out" in note for note in results.notes)
    assert {row["arm"]: row["other_labels"] for row in results.as_json()["ways"]}["merged"] == labels


def test_whoever_is_tested_does_not_teach(ran, place):
    """80 patients have the keys of the own cohort; a stranger has a test patient's picture, and kin."""
    results, _ = ran
    split = json.loads((results.path / "split.json").read_text())
    taught = set(json.loads((results.path / "others.json").read_text())["same"])
    everybody = Cohort.open(place.cohort("other")).scans()
    assert not taught & {*split["test"], *split["validation"]}
    assert set(split["pool"]) <= taught  # they may
    kept_out = set(everybody["patient"]) - taught
    assert len(kept_out) == results.facts["others"]["same"]["kept_out"]
    strangers = kept_out - {*split["test"], *split["validation"]}
    assert len(strangers) == 2
    assert len(taught) == TAUGHT + len(split["pool"])
    keys = json.loads((results.path / "pretrained.json").read_text())
    for name in ("labels_there", "simclr_there"):
        seen = set(json.loads((place.encoder(keys[name]) / "patients.json").read_text()))
        assert seen == taught
    checks = {check.name: check for check in audit(results.path)}
    assert all(check.passed for check in checks.values()), checks
    assert "other labels" in checks


def test_the_audit_finds_who_should_not_have_taught(ran, tmp_path):
    place = Workspace(shutil.copytree(ran[0].path.parents[1], tmp_path / "copy"))
    path = place.experiment("paths") / "others.json"
    taught = json.loads(path.read_text())
    test = json.loads((path.parent / "split.json").read_text())["test"]
    path.write_text(json.dumps({**taught, "same": [*taught["same"], test[0]]}))
    checks = {check.name: check for check in audit(path.parent)}
    assert not checks["other labels"].passed and "taught 'same'" in checks["other labels"].sentence


def test_a_rerun_computes_nothing_and_other_labels_only_what_learnt_them(ran, place):
    results, config = ran
    files = {f.name for f in (results.path / "results").iterdir()}
    encoders = set(place.path.glob("encoders/*"))
    run(validate(Experiment, config, "paths"), place, processes=1)
    assert {f.name for f in (results.path / "results").iterdir()} == files
    assert set(place.path.glob("encoders/*")) == encoders

    def keys(raw):
        plan = plan_of(raw, place)
        jobs = list_jobs(plan, {name: ["e"] for name in plan.config.arms}, dict.fromkeys(plan.config.arms, "s"))
        runs = {name: encoder_key(name, spec, plan) for name, spec in plan.config.pretraining.items()}
        return {job.arm: job.key for job in jobs}, runs, {job.arm: job.recipe for job in jobs}

    before = keys(config)
    turned = {**config["others"]["same"], "classes": {"rough": "calm", "calm": "rough"}}
    after = keys({**config, "others": {**config["others"], "same": turned}})
    changed = [{name for name in old if old[name] != new[name]} for old, new in zip(before, after, strict=True)]
    assert changed[0] == {"merged"}
    assert changed[1] == {"labels_there"}
    assert changed[2] == {"merged", "transferred"}


def test_an_arm_with_other_labels_can_be_taken_away(ran):
    from medssl.experiment.predictor import refit

    results, _ = ran
    predictor = refit(Results.open(results.path), "merged", 5)
    assert predictor.about.labels.job and predictor.about.classes == ["calm", "rough"]


def test_an_arm_whose_other_labels_have_changed_is_not_taken_away(ran, monkeypatch):
    from medssl.experiment.predictor import refit

    results = Results.open(ran[0].path)
    others = {name: {**other, "hash": "another"} for name, other in results.facts["others"].items()}
    monkeypatch.setitem(results.facts, "others", others)
    with pytest.raises(UserError, match="the cohort 'other' has changed since the experiment was run"):
        refit(results, "merged", 5)


def test_other_labels_of_the_own_cohort_are_those_of_the_pool(place, raw, tmp_path):
    """A second column of the own cohort: taught by the pool alone; and it is said how much it tells."""
    cohort = Cohort.open(place.cohort("tiny"))
    from medssl.config import LabelColumns
    from medssl.ingest.labels import add_labels

    labels = cohort.labels("label")
    rows = [f"{scan},{'bad' if value == 'rough' else 'good'}" for scan, value in labels.to_numpy()]
    (tmp_path / "more.csv").write_text("scan,report\n" + "\n".join(rows) + "\n")
    add_labels(cohort, LabelColumns(file=str(tmp_path / "more.csv"), scan="scan", targets=["report"]), place)
    others = {"weak": {"target": {"name": "report"}, "classes": {"bad": "rough", "good": "calm"}}}
    arms = {"weak": {"jointly": "weak", "strategy": {"name": "joint", **FEW}}}
    plan = plan_of(raw(None, others, arms=arms), place)
    weak = plan.others["weak"]
    assert set(weak.units["patient"]) == set(plan.split.pool) and set(weak.units["label"]) == {"calm", "rough"}
    assert weak.own and weak.same_task and weak.tells == 1.0
    done = run(plan.config.model_copy(update={"name": "weak"}), place, processes=1)
    assert any("tells 100% of the pool" in note for note in done.notes)


REFUSED = [
    ({"classes": {"calm": "calm", "rough": "roug"}}, "unknown class of 'label' 'roug'(.|\n)*Did you mean 'rough'"),
    ({"classes": {"calmer": "calm"}}, "unknown label 'calmer'(.|\n)*Did you mean 'calm'"),
    ({"classes": {"calm": None, "rough": None}}, "the labels hold 0 class"),
    ({"classes": {"rough": None}}, "the labels hold 1 class"),
    ({"target": {"name": "sid"}}, "unknown label or attribute in 'other' 'sid'(.|\n)*Did you mean 'side'"),
    ({"target": {"name": "modality"}}, "all labels are '"),
]


@pytest.fixture(scope="module")
def other_folder(ran):
    return ran[1]["others"]["same"]["cohort"]["source"]


@pytest.mark.parametrize(("entry", "message"), REFUSED)
def test_labels_that_do_not_fit_are_refused_before_anything_runs(place, raw, other_folder, entry, message):
    arms = {"merged": {"jointly": "same", "strategy": "joint"}}
    with pytest.raises(UserError, match=message):
        plan_of(raw(None, {"same": {"cohort": source(other_folder), **entry}}, arms=arms), place)


def test_labels_of_other_classes_need_a_map(place, raw, tmp_path):
    folder = make_other(tmp_path / "renamed", names=("calm", "wild"))
    cohort = {**source(folder), "name": "renamed"}
    arms = {"merged": {"jointly": "same", "strategy": "joint"}}
    with pytest.raises(UserError, match=r"has a label 'wild' that is no class of 'label' \(calm, rough\)"):
        plan_of(raw(None, {"same": {"cohort": cohort}}, arms=arms), place)
    mapped = plan_of(raw(None, {"same": {"cohort": cohort, "classes": {"wild": "rough"}}}, arms=arms), place)
    assert mapped.others["same"].units["label"].value_counts().to_dict() == {"calm": 18, "rough": 18}


def mapped_labels(kind, own, labels, classes=None, target=None):
    """Labels of another cohort as those of a target of this kind."""
    mine = Target(name="own", kind=kind)
    units = pd.DataFrame({"unit": map(str, range(len(labels))), "patient": "p", "label": labels})
    return mapped("same", Other(target=target, classes=classes or {}), units, mine, make_target(mine, own))[
        "label"
    ].tolist()


def test_labels_of_each_kind_are_mapped():
    findings = ["a|b", "a", "no finding"]
    assert mapped_labels("multilabel", findings, ["b", "a|b", "no finding"]) == ["b", "a|b", "no finding"]
    classes = {"A": "a", "B": "b", "scar": None, "well": "no finding"}
    theirs = ["A|scar", "scar", "A|B", "well", "no finding"]
    assert mapped_labels("multilabel", findings, theirs, classes) == ["a", "no finding", "a|b", *["no finding"] * 2]
    grades = {"name": "ordinal", "grades": ["low", "middle", "high"]}
    assert mapped_labels(grades, ["low", "middle", "high"], ["mild", "high"], {"mild": "low"}) == ["low", "high"]
    assert mapped_labels("regression", ["1", "2", "3"], ["7.5", "8", "-1"], {"-1": None}) == ["7.5", "8"]


@pytest.mark.parametrize(
    ("kind", "labels", "entry", "message"),
    [
        ("multilabel", ["a", "a|c", "b"], {}, r"has a label 'c' that is no class of 'own' \(a, b\)"),
        ("multilabel", ["a", "no finding"], {}, "never has the label 'b' of 'own', and would teach that nobody has it"),
        ("multilabel", ["a|b", "a|b"], {}, r"the labels hold 1 class\(es\) or value\(s\)"),
        ("ordinal", ["0", "3"], {}, "has a label '3' that is no class"),
        ("regression", ["7", "?"], {}, "some labels are no numbers"),
        ("regression", ["7", "7"], {}, "the labels hold 1"),
        (
            "ordinal",
            ["0", "1"],
            {"target": Target(name="theirs"), "classes": {"0": "0"}},
            r"which is of kind ordinal(.|\n)*Write kind: ordinal without settings",
        ),
        (
            "multilabel",
            ["a", "b"],
            {"target": Target(name="theirs", kind={"name": "multilabel", "imbalance": "focal"}), "classes": {"a": "a"}},
            "or to be learnt with other settings",
        ),
    ],
)
def test_labels_that_make_no_sense_as_the_own_target_are_refused(kind, labels, entry, message):
    own = {"multilabel": ["a", "b"], "ordinal": ["0", "1", "2"], "regression": ["1", "2", "3"]}[kind]
    with pytest.raises(UserError, match=message):
        mapped_labels(kind, own, labels, **entry)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"size": 32, "spacing": 1.0}, "of 'other' do not fit the experiment's view: .* have no pixel spacing"),
        ({"size": 32, "spatial_dims": 3}, "of 'other' do not fit the experiment's view: .* are 2-D"),
    ],
)
def test_a_cohort_that_does_not_fit_the_view_is_refused(place, raw, other_folder, view, message):
    arms = {"merged": {"jointly": "same", "strategy": "joint"}}
    with pytest.raises(UserError, match=message):
        plan_of(raw(other_folder, arms=arms, view=view), place)


def test_a_cohort_whose_patients_are_all_tested_is_refused(place, raw, tmp_path):
    test = json.loads((place.experiment("tiny") / "split.json").read_text())["test"]
    scans = Cohort.open(place.cohort("tiny")).scans()
    folder = tmp_path / "copies"
    folder.mkdir()
    for number, scan in enumerate(scans.loc[scans["patient"].isin(test[:2]), "scan"]):
        Image.fromarray(np.array(Cohort.open(place.cohort("tiny")).array(scan))).save(folder / f"c{number}.png")
    lines = [f"c{n}.png,C{n},calm,left" for n in range(4)]
    (folder / "labels.csv").write_text("file,patient,label,side\n" + "\n".join(lines) + "\n")
    others = {"same": {"cohort": {**source(folder), "name": "copies"}}}
    with pytest.raises(UserError, match="everybody in 'copies' is tested"):
        plan_of(raw(None, others, arms={"merged": {"jointly": "same", "strategy": "joint"}}), place)


def test_a_missing_source_is_said(place, raw):
    others = {"same": {"cohort": {**source("nowhere"), "name": "nobody"}}}
    with pytest.raises(UserError, match="the source of cohort 'nobody' does not exist"):
        plan_of(raw(None, others, arms={"merged": {"jointly": "same", "strategy": "joint"}}), place)


def test_arm_and_strategy_must_agree(place, raw, other_folder):
    with pytest.raises(UserError, match=r"'finetune' does not learn other labels jointly(.|\n)*strategy: joint"):
        plan_of(raw(other_folder, arms={"merged": {"jointly": "same", "strategy": "finetune"}}), place)
    with pytest.raises(UserError, match=r"'joint' learns other labels too(.|\n)*Add jointly"):
        plan_of(raw(other_folder, arms={"merged": {"strategy": "joint"}}), place)


def test_an_entry_that_no_arm_uses_is_not_even_opened(place, raw):
    assert plan_of(raw(None, {"same": {"cohort": source("nowhere")}}), place).others == {}
