"""Files of weights that a config names: refused where they know a test patient or were made for other scans."""

import shutil

import pytest

from medssl.cohort import Cohort, View
from medssl.config import Experiment, validate
from medssl.encoders import create_encoder, learned_from, marks, read_metadata, save_checkpoint
from medssl.errors import UserError
from medssl.experiment import audit, run
from medssl.experiment.plan import make_plan
from medssl.training import pretrain
from medssl.training.identity import weights_key
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A copy of the finished workspace."""
    return Workspace(shutil.copytree(finished[1].path, tmp_path_factory.mktemp("weights") / "workspace"))


@pytest.fixture(scope="module")
def learned(place, tmp_path_factory):
    """Checkpoints by name: of `everyone`, of `others` than the test patients, and of a `far` view."""
    cohort, folder = Cohort.open(place.cohort("tiny")), tmp_path_factory.mktemp("encoders")
    test = frozenset(make_plan_test(cohort))
    runs = {
        "everyone": {"view": View(size=32)},
        "others": {"view": View(size=32), "exclude": test},
        "smaller": {"view": View(size=48), "exclude": test},
        "far": {"view": View(size=32, fit="stretch", intensity="percentiles"), "exclude": test},
    }
    for name, what in runs.items():
        pretrain(cohort, "simclr", out=folder / name, steps=1, batch=8, **what)
    return {name: folder / name / "checkpoint.safetensors" for name in runs}


def make_plan_test(cohort):
    from medssl.cohort.splits import Split

    return Split.load(cohort.path / "split.json").test


@pytest.fixture
def config_of(finished):
    """The tiny experiment with one arm from a file of weights, or a pretraining run that starts from it."""
    raw = finished[0].settings.model_dump(mode="json")

    def make(file, pretraining=False):
        arm = {"encoder": "small", "init": str(file)}
        runs = {}
        if pretraining:
            arm, runs = {"pretrain": "more"}, {"more": {"task": "simclr", "steps": 2, "batch": 8, "weights": str(file)}}
        arms = {"pixels": raw["arms"]["pixels"], "file": arm}
        changes = {"name": "file", "arms": arms, "pretraining": runs, "baseline": ["pixels"], "claim": None}
        return validate(Experiment, {**raw, **changes, "cohort": finished[0].settings.cohort.model_dump()}, "file")

    return make


@pytest.mark.parametrize("pretraining", [False, True], ids=["init", "weights"])
@pytest.mark.parametrize("copied", [False, True], ids=["in its folder", "copied"])
def test_weights_that_know_test_patients_are_refused(learned, config_of, place, tmp_path, pretraining, copied):
    file = shutil.copy(learned["everyone"], tmp_path / "moved.safetensors") if copied else learned["everyone"]
    cohort = Cohort.open(place.cohort("tiny"))
    with pytest.raises(UserError, match=rf"has learned from {len(make_plan_test(cohort))} patient\(s\) who are tested"):
        make_plan(config_of(file, pretraining), cohort)


def test_weights_of_others_are_taken_and_pass_the_audit(learned, config_of, place):
    results = run(config_of(learned["others"]), place, processes=1)
    checks = {check.name: check for check in audit(results.path)}
    assert all(check.passed for check in checks.values()), checks
    assert str(learned["others"].parent) not in str(results.arms().to_dict())
    shutil.copy(learned["everyone"], learned["others"])  # the file is not what it was
    (learned["others"].parent / "patients.json").unlink()
    found = {check.name: check for check in audit(results.path)}["pretraining"]
    assert not found.passed and "has learned from" in found.sentence


def test_what_medssl_wrote_must_say_whom_it_learned_from(config_of, place, tmp_path):
    cohort = Cohort.open(place.cohort("tiny"))
    view = {"view": View(size=32).model_dump(mode="json")}
    predictor = save_checkpoint(tmp_path / "predictor.safetensors", create_encoder("small"), {}, view)
    with pytest.raises(UserError, match="does not say which patients it learned from"):
        make_plan(config_of(predictor), cohort)
    foreign = save_checkpoint(tmp_path / "foreign.safetensors", create_encoder("small"))
    assert make_plan(config_of(foreign), cohort)


def test_weights_for_scans_that_are_drawn_otherwise_are_refused(learned, config_of, place):
    cohort = Cohort.open(place.cohort("tiny"))
    with pytest.raises(UserError, match=r"intensity percentiles there and auto here.*fit stretch there and crop here"):
        make_plan(config_of(learned["far"]), cohort)
    assert make_plan(config_of(learned["smaller"]), cohort)  # convolutions take any size


def test_a_checkpoint_says_whom_it_learned_from_without_their_keys(learned, place):
    patients = set(Cohort.open(place.cohort("tiny")).scans()["patient"])
    assert learned_from(learned["everyone"]) == set(marks(patients))
    assert not any(patient in str(read_metadata(learned["everyone"])) for patient in patients)


def test_a_file_below_home_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = []
    for seed in (1, 2):
        save_checkpoint(tmp_path / "weights.safetensors", create_encoder("small", seed=seed))
        keys.append(weights_key("~/weights.safetensors"))
    assert keys[0] != keys[1] and "~" not in keys[0]
