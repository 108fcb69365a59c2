"""Cross-fitting from config to report, its audit with planted faults, and input that does not allow it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medssl.cli import app
from medssl.cohort import Cohort
from medssl.config import Experiment, load_experiment, validate
from medssl.errors import UserError
from medssl.experiment import Results, audit, run
from medssl.experiment.crossfit import read_folds
from medssl.experiment.ledger import looks
from medssl.report import publish, render_report, terminal_table
from medssl.workspace import Workspace, digest

FOLDS, REPEATS = 4, 3
CHANGES = {
    "split": {"folds": FOLDS, "repeats": REPEATS, "labels": 16, "seed": 1},
    "budgets": [5, "all"],
    "arms": {
        "pixels": {"encoder": "pixels"},
        "spread": {"encoder": "small", "strategy": "propagate"},
        "simclr": {"pretrain": "simclr"},
    },
    "baseline": ["pixels"],
    "claim": {"arm": "simclr", "baseline": "pixels", "budget": "all"},
}


@pytest.fixture(scope="module")
def raw(tiny_raw):
    return {key: value for key, value in tiny_raw.items() if key != "draws"} | CHANGES


@pytest.fixture(scope="module")
def crossed(raw, tmp_path_factory):
    """A finished cross-fitted run: 16 labeled images a class, all other patients unlabeled."""
    results = run(validate(Experiment, raw, "tiny"), Workspace(tmp_path_factory.mktemp("crossed")), processes=1)
    publish(results)
    return results


@pytest.fixture
def place(crossed, tmp_path):
    """A copy of its workspace, to be spoilt."""
    return Path(shutil.copytree(crossed.path.parent.parent, tmp_path / "copy"))


def test_each_labeled_patient_is_tested_once_a_repeat_by_models_of_the_other_folds(crossed):
    evidence, tested = crossed.evidence(), read_folds(crossed.path)
    assert crossed.settings.draws == len(tested) == FOLDS * REPEATS and crossed.complete
    once = evidence.drop_duplicates(["arm", "budget", "draw", "unit"])
    counts = once.assign(repeat=once["draw"] // FOLDS).groupby(["arm", "budget", "repeat", "unit"]).size()
    assert (counts == 1).all() and len(counts) == 3 * 2 * REPEATS * 32
    budgets = json.loads((crossed.path / "budgets.json").read_text())
    owner = Cohort.open(crossed.cohort_folder).scans().set_index("scan")["patient"]
    for draw, fold in tested.items():
        taught = budgets[str(draw)]["all"]
        assert set(taught) | set(fold) == set(once["unit"]) and not set(owner[taught]) & set(owner[fold])
        assert set(budgets[str(draw)]["5"]) <= set(taught) and len(budgets[str(draw)]["5"]) == 10
    assert crossed.label_counts() == {5: 10, "all": 24}


def test_labeled_patients_are_kept_out_of_pretraining_and_the_look_is_entered(crossed):
    split = json.loads((crossed.path / "split.json").read_text())
    assert len(split["test"]) == 32 and len(split["pool"]) == 48 and not split["validation"]
    (key,) = json.loads((crossed.path / "pretrained.json").read_text()).values()
    learnt = json.loads((crossed.path.parent.parent / "encoders" / key / "patients.json").read_text())
    assert set(learnt) == set(split["pool"])
    (look,) = looks(crossed.cohort_folder)
    assert look["experiment"] == "tiny" and look["jobs"] == 3 * 2 * FOLDS * REPEATS
    assert not (crossed.cohort_folder / "split.json").exists(), "folds take no test part away from the cohort"


def test_scores_and_differences_follow_from_the_evidence(crossed):
    rows = crossed.evidence().query("cls == 'rough' and budget == 'all'")
    means = {}
    for arm, own in rows.groupby("arm"):
        each = [
            (roc_auc_score(fold["truth"], fold["score"]), fold["truth"].sum() * (1 - fold["truth"]).sum())
            for _, fold in own.groupby("draw")
        ]
        means[arm] = np.average([area for area, _ in each], weights=[pairs for _, pairs in each])
    table = crossed.scores().query("metric == 'auc' and budget == 'all'").set_index("arm")["score"]
    assert table.to_dict() == pytest.approx(means, abs=1e-6)
    gap = crossed.differences().query("metric == 'auc' and arm == 'simclr' and claim")
    assert gap["difference"].item() == pytest.approx(means["simclr"] - means["pixels"], abs=1e-6)
    assert set(crossed.scores()["draws"]) == {REPEATS} and set(crossed.scores()["patients"]) == {32}
    assert crossed.fixed_models().empty and len(crossed.savings()) > 0


def test_strategies_see_the_unlabeled_units_and_never_the_fold_that_is_tested():
    from medssl.experiment.job import pool_and_test

    units = pd.DataFrame({"unit": list("abcd"), "part": ["test", "test", "test", "pool"]})
    pool, test = pool_and_test(units, "test", ("b",))
    assert pool.tolist() == [0, 2, 3] and test.tolist() == [1]


def test_terminal_report_and_app_say_what_a_figure_stands_for(crossed, monkeypatch):
    from streamlit.testing.v1 import AppTest

    phrase = "cross-fitted over 32 patients"
    assert phrase in terminal_table(crossed).splitlines()[0]
    assert crossed.verdicts()["sentence"].str.contains(phrase).all()
    assert any(phrase in note and "belongs to the recipe" in note for note in crossed.notes)
    page = render_report(crossed)
    for said in (
        phrase,
        "4 folds",
        "No labeled patient, and nobody tied to one, was used for pretraining",
        "of one fold",
    ):
        assert said in page, said
    assert "the same 32 images" not in page and "are the whole pool" not in page
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
    from make_screenshots import main_page

    monkeypatch.setattr(sys, "argv", ["main.py", "--workspace", str(crossed.path.parent.parent)])
    shown = AppTest.from_file(str(main_page()), default_timeout=60).run().switch_page("views/label_efficiency.py").run()
    assert not shown.exception
    assert phrase in " ".join([h.proto.body for h in shown.get("html")] + [str(m.value) for m in shown.markdown])


def test_what_is_missing_is_run_again_to_the_same_tables(crossed, place):
    folder = place / "experiments" / "tiny"
    for file in sorted((folder / "results").glob("*.parquet"))[::3]:
        file.unlink()
    again = run(crossed.settings, Workspace(place), processes=1)
    pd.testing.assert_frame_equal(again.scores(), crossed.scores())
    pd.testing.assert_frame_equal(again.differences(), crossed.differences())


def test_a_dry_run_says_what_can_be_detected_and_trains_nothing(raw, tmp_path):
    config = tmp_path / "few.yaml"
    config.write_text(yaml.safe_dump(raw))
    command = ["run", str(config), "--dry-run", "--workspace", str(tmp_path / "w")]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "32 labeled ones, cross-fitted with 32 images; 48 to pretrain on" in said.output
    assert "72 jobs (3 arms x 2 budgets x 4 folds x 3 repeats)" in said.output
    assert "16 labeled patients in the rarest class and 16 others, all tested 3 times over in 4 folds" in said.output
    about = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert about["jobs"] == 72 and about["patients"] == {"pool": 48, "validation": 0, "test": 32}
    detectable = about["detectable"]
    assert detectable["folds"] == 4 and 0.15 < detectable["claimed"] < detectable["explored"]
    assert not (tmp_path / "w" / "encoders").exists() and not (tmp_path / "w" / "experiments" / "tiny").exists()
    few = CliRunner().invoke(app, [*command, "split.labels=10"])
    assert "no interval will be estimable" in few.output


def test_the_audit_passes(crossed):
    checks = audit(crossed.path)
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert len(checks) == 9 and checks[-1].name == "folds"


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def a_tested_patient_who_teaches(folder):
    """Labels of the fold that is tested are among those that its model learnt from, in every trace of the run."""
    stranger = read_folds(folder)[2][0]

    def edit(draws):
        draws["2"]["all"][0] = stranger

    change(folder / "budgets.json", edit)
    taught = json.loads((folder / "budgets.json").read_text())["2"]["all"]
    jobs = Results.open(folder).jobs()
    for key in jobs.loc[(jobs["draw"] == 2) & (jobs["budget"] == "all"), "job"]:
        file = folder / "results" / f"{key}.parquet"
        pd.read_parquet(file).assign(labels=digest(sorted(taught))).to_parquet(file, index=False)


def a_unit_that_is_tested_twice(folder):
    change(folder / "folds.json", lambda folds: folds["1"].append(folds["0"][0]))


def a_missing_fold(folder):
    change(folder / "folds.json", lambda folds: folds.pop("11"))


def an_arm_with_other_folds(folder):
    jobs = Results.open(folder).jobs()
    jobs = jobs[(jobs["arm"] == "simclr") & (jobs["budget"] == "all")].set_index("draw")["job"]
    files = [folder / "results" / f"{jobs[draw]}.parquet" for draw in (0, 1)]
    rows = [pd.read_parquet(file) for file in files]
    for file, mine, other in zip(files, rows, rows[::-1], strict=True):
        mine.assign(draw=other["draw"].iloc[0], labels=other["labels"].iloc[0]).to_parquet(file, index=False)


def a_labeled_patient_in_pretraining(folder):
    split = json.loads((folder / "split.json").read_text())
    (file,) = (folder.parent.parent / "encoders").glob("*/patients.json")
    file.write_text(json.dumps(sorted([*json.loads(file.read_text()), split["test"][0]])))


def a_near_duplicate_in_another_fold(folder):
    copy_scan(folder, lambda array: np.clip(array.astype(int) + 5, 0, 255).astype(np.uint8), "test")


def an_exact_duplicate_in_pretraining(folder):
    copy_scan(folder, lambda array: array, "pool")


def copy_scan(folder, alter, part):
    """The picture of a patient who is tested, under the key of another patient."""
    from test_audit import replace_scan

    place, tested = folder.parent.parent, read_folds(folder)
    source = tested[0][0]
    scans = Cohort.open(place / "cohorts" / "tiny").scans().set_index("scan")["patient"]
    pool = json.loads((folder / "split.json").read_text())["pool"]
    target = tested[1][0] if part == "test" else scans.index[scans.isin(pool)][0]
    array = np.array(Cohort.open(place / "cohorts" / "tiny").array(source))
    replace_scan(place, target, alter(array))


def an_edited_table(folder):
    table = pd.read_csv(folder / "differences.csv")
    table.loc[0, "difference"] += 0.05
    table.to_csv(folder / "differences.csv", index=False)


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        (a_tested_patient_who_teaches, {"folds"}),
        (a_unit_that_is_tested_twice, {"folds"}),
        (a_missing_fold, {"folds"}),
        (an_arm_with_other_folds, {"folds", "tables"}),
        (a_labeled_patient_in_pretraining, {"pretraining"}),
        (a_near_duplicate_in_another_fold, {"near duplicates"}),
        (an_exact_duplicate_in_pretraining, {"exact duplicates"}),
        (an_edited_table, {"tables"}),
    ],
)
def test_planted_faults_are_found(place, fault, checks):
    folder = place / "experiments" / "tiny"
    fault(folder)
    found = {check.name for check in audit(folder) if not check.passed}
    assert checks <= found, found
    if fault in (a_tested_patient_who_teaches, an_edited_table):
        assert found <= checks | {"nested budgets", "exact duplicates"}  # his pictures are on both sides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split.test=0.3", "'test' has no meaning beside folds"),
        ("split.column=site", "'column' has no meaning beside folds"),
        ("split.folds=1", "greater than or equal to 2"),
        ("split.fold=4", "unknown key 'split.fold'.*\n.*Did you mean 'folds'"),
        ("draws=10", "folds x repeats = 12 draws, not 10"),
        ("evaluate=validation", "no validation patients"),
        ("external=[{name: x, source: y}]", "no one model that could be tested elsewhere"),
        ("split={repeats: 3}", "'repeats' needs folds"),
        ("split={labels: 3}", "'labels' needs folds"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(raw, tmp_path, override, message):
    config = tmp_path / "few.yaml"
    config.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match=message):
        load_experiment(config, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split.folds=20", r"class '(calm|rough)' has 16 patient\(s\), fewer than 20 folds"),
        ("budgets=[14, all]", "fewer than the budget of 14"),
        ("split.labels=50", "class '(calm|rough)' has 40 patients in the pool"),
        ("metrics=[auc, sensitivity_at_90]", "'sensitivity_at_90' needs one model"),
        ("split.labels=", "nobody is left to pretrain on"),
        ("target.name=finding", "unknown target|no target"),
    ],
)
def test_scans_that_do_not_allow_it_are_refused_before_training(raw, crossed, tmp_path, override, message):
    config = tmp_path / "few.yaml"
    config.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match=message):
        run(load_experiment(config, [override]), Workspace(crossed.path.parent.parent), processes=1)


@pytest.mark.parametrize(
    ("labels", "message"), [({}, "no labels"), ({"label": "calm"}, "all labels are 'calm'; at least 2 classes")]
)
def test_unlabeled_and_one_class_cohorts_are_refused(raw, tiny_source, tmp_path, labels, message):
    table = pd.read_csv(tiny_source / "labels.csv")
    table = table[["file", "patient"]] if not labels else table.assign(**labels)
    table.to_csv(tmp_path / "other.csv", index=False)
    cohort = {
        **raw["cohort"],
        "name": "other",
        "labels": {**raw["cohort"]["labels"], "file": str(tmp_path / "other.csv")},
    }
    config = {
        **raw,
        "cohort": cohort,
        "split": {"folds": FOLDS},
        "arms": {"pixels": {"encoder": "pixels"}},
        "claim": None,
    }
    with pytest.raises(UserError, match=message):
        run(validate(Experiment, config, "tiny"), Workspace(tmp_path / "w"), processes=1)


def test_a_cohort_with_a_test_part_is_not_cross_fitted(finished, raw):
    with pytest.raises(UserError, match="this cohort has a test part"):
        run(validate(Experiment, raw | {"name": "late"}, "tiny"), finished[1], processes=1)


def test_a_stored_config_says_the_same_again(crossed):
    stored = Results.open(crossed.path).settings
    assert stored.split == crossed.settings.split and stored.draws == 12 and stored.budgets == [5, "all"]
    plain = Experiment.model_validate({**crossed.config, "budgets": ["all"]}).model_dump(exclude={"budgets", "draws"})
    assert Experiment.model_validate(plain | {"split": crossed.settings.split}).budgets == ["all"]


def test_a_predictor_is_the_model_of_one_fold_or_learns_from_all_of_them(crossed):
    from medssl.experiment.predictor import refit

    one, every = refit(crossed, "pixels", draw=2), refit(crossed, "pixels", all_labels=True)
    place = Workspace(crossed.path.parent.parent)
    found = one.predictions(crossed.cohort_folder, place).units.set_index("unit")["score_rough"]
    rows = crossed.evidence()
    rows = rows[(rows["arm"] == "pixels") & (rows["budget"] == "all") & (rows["draw"] == 2) & (rows["cls"] == "rough")]
    assert found.reindex(rows["unit"]).tolist() == pytest.approx(rows["score"].tolist(), abs=1e-5)
    assert (one.about.labels.units, every.about.labels.units) == (24, 32)
    assert every.known.patients == 80 > one.known.patients
