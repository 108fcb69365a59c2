import pytest
import yaml

from medssl.config import (
    Engine,
    Experiment,
    View,
    find_config,
    load_experiment,
    settings_for,
    shipped_configs,
    validate,
)
from medssl.errors import UserError

SMALL = {
    "name": "x",
    "cohort": {"name": "x", "source": "x"},
    "target": {"name": "t"},
    "arms": {"scratch": {"strategy": "finetune"}, "simclr": {"pretrain": "simclr"}},
    "pretraining": {"simclr": {"task": "simclr"}},
}


OTHER = {"name": "y", "source": "y"}


@pytest.fixture
def write(tmp_path):
    def make(**changes):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **changes}))
        return path

    return make


def test_overrides_are_read_as_yaml(write):
    config = load_experiment(write(), ["draws=3", "budgets=[2, all]", "view.size=96", "pretraining.simclr.steps=7"])
    assert (config.draws, config.budgets, config.view.size) == (3, [2, "all"], 96)
    assert config.pretraining["simclr"].steps == 7


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"drawz": 3}, [], "unknown key 'drawz'.*\n.*Did you mean 'draws'"),
        ({}, ["arms.scratch.encodr=small"], "unknown key 'arms.scratch.encodr'.*\n.*Did you mean 'encoder'"),
        ({}, ["draws=0"], "'draws': .*greater than or equal to 1"),
        ({}, ["draws"], "written key=value"),
        ({}, ["name.x=1"], "'name' holds a value"),
        ({"baseline": "scrach"}, [], "unknown arm 'scrach'.*\n.*'scratch'"),
        ({"arms": {"scratch": {"pretrain": "simclt"}}}, [], "unknown pretraining run 'simclt'.*\n.*'simclr'"),
        ({"claim": {"arm": "simclr", "baseline": "scratch", "budget": 3}}, [], "unknown budget '3'"),
        ({"budgets": [5, 5]}, [], "different whole numbers"),
        ({"others": {"o": {}}}, [], "neither another cohort nor another target"),
        ({"others": {"o": {"target": {"name": "t"}}}}, [], "what the budgets count out"),
        ({"others": {"o": {"cohort": {"name": "x", "source": "y"}}}}, [], "own cohort(.|\n)*Leave cohort out"),
        ({"others": {"o": {"cohort": OTHER}}, "external": [OTHER]}, [], "external test cohort may not teach"),
        ({"others": {"o": {"cohort": OTHER}}}, ["arms.scratch.jointly=p"], "unknown entry under others 'p'"),
        ({}, ["pretraining.simclr.other=there"], "unknown entry under others 'there'"),
        ({}, ["pretraining.simclr.task=supervised"], "not said whose labels are learnt"),
        ({"others": {"o": {"target": {"name": "u"}}}}, ["pretraining.simclr.other=o"], "'simclr' needs no labels"),
    ],
)
def test_each_mistake_gets_its_own_sentence(write, changes, overrides, message):
    with pytest.raises(UserError, match=message):
        load_experiment(write(**changes), overrides)


def test_labels_that_are_numbers_in_yaml_are_text(write):
    others = {"o": {"target": {"name": "u"}, "classes": {0: "no", 1: None, "2": 3}}}
    assert load_experiment(write(others=others)).others["o"].classes == {"0": "no", "1": None, "2": "3"}


def test_files_that_are_no_config(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: 1\nb: {c: 2\nd: 3\n")
    with pytest.raises(UserError, match=r"not valid YAML, line 3: expected"):
        load_experiment(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="mapping"):
        load_experiment(tmp_path / "list.yaml")
    with pytest.raises(UserError, match=r"no such config(.|\n)*kermany_cxr"):
        load_experiment(tmp_path / "none.yaml")


def test_shipped_configs_are_found_by_name_and_are_valid():
    names = {p.stem for folder in shipped_configs() for p in folder.glob("*.yaml")}
    assert {"demo", "kermany_cxr", "busi"} <= names
    for name in names:
        config = load_experiment(name)
        assert config == load_experiment(f"configs/{name}.yaml") and config.name == name
        assert find_config(name).stem == name


def test_round_trip():
    config = validate(Experiment, SMALL, "here")
    assert validate(Experiment, config.model_dump(mode="json"), "again") == config


def test_settings_of_an_unknown_strategy():
    import medssl.transfer.strategies.probe  # noqa: F401

    with pytest.raises(UserError, match="unknown strategy 'prob'"):
        settings_for("strategy", "prob", {})


def test_a_pretraining_run_may_say_all_that_the_command_may(write):
    """One model serves both; what changes no weight changes no key."""
    said = {"task": "simclr", "accumulate": 2, "optimizer": "lars", "log": "tensorboard", "precision": 32, "epochs": 3}
    run = load_experiment(write(pretraining={"simclr": said})).pretraining["simclr"]
    assert isinstance(run, Engine) and set(run.engine()) == set(Engine.model_fields)
    assert (run.accumulate, run.optimizer, run.log, run.precision) == (2, "lars", ["tensorboard"], "32")
    assert run.length == "3 epochs" and Engine().length == "1,000 steps"
    plain = run.model_copy(update={"log": [], "checkpoint_every": 5})
    assert plain.choices() == run.choices() != run.model_copy(update={"accumulate": 1}).choices()
    for change, says in (({"steps": 5}, "Give one"), ({"log": "tensorbord"}, "tensorboard"), ({"epochs": 0}, "than 0")):
        with pytest.raises(UserError, match=says):
            load_experiment(write(pretraining={"simclr": said | change}))


def test_views_with_named_contrasts_are_keys_too() -> None:
    one, same = (View(contrasts=({"bids_suffix": "T1w"}, {"bids_suffix": "T2w"})) for _ in range(2))
    assert {one: "samples"}[same] == "samples" and len({one, same, View()}) == 2
