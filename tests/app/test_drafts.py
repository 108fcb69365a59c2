"""From the form to a config, and from config models to fields."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from pydantic import Field

from medssl.config import Engine, Experiment, Fractions, View, load_experiment
from medssl.config.base import Strict
from medssl.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import main_page

sys.path.insert(0, str(main_page().parent))
import forms
from drafts import COMPARED, Draft, fitting_budgets, slug, unused


def draft(**changes) -> Draft:
    values = {
        "name": "mine",
        "cohort": "c",
        "source": "/scans",
        "target": "lesion",
        "unit": "exam",
        "tasks": ["simclr", "rotation"],
        "strategies": ["probe"],
        "compared": ["scratch", "imagenet"],
    }
    return Draft(**(values | changes))


def test_the_yaml_is_the_config_that_was_checked(tmp_path):
    made = draft(
        pretraining={"steps": 5}, view={"size": 32}, split={"test": 0.3},
        experiment={"budgets": [2, "all"], "draws": 3},
        claim={"arm": "simclr", "baseline": "scratch", "budget": 2},
    )  # fmt: skip
    (tmp_path / "mine.yaml").write_text(made.yaml())
    read = load_experiment(tmp_path / "mine.yaml")
    assert read == made.check()
    assert list(read.arms) == ["scratch", "imagenet", "simclr", "rotation"] and read.arms["simclr"].pretrain == "simclr"
    assert read.pretraining["rotation"].steps == 5 and read.view.size == 32 and read.split.test == 0.3
    assert read.baseline == ["scratch", "imagenet"] and read.budgets == [2, "all"] and read.target.unit == "exam"


def test_what_is_as_by_default_is_left_out():
    assert yaml.safe_load(draft(tasks=["simclr"]).yaml()).keys() == {
        "name", "cohort", "target", "pretraining", "arms", "baseline"
    }  # fmt: skip


def test_a_task_has_an_arm_a_strategy():
    assert list(draft(tasks=["simclr"], strategies=["probe", "finetune"], compared=[]).arms) == [
        "simclr_probe", "simclr_finetune"
    ]  # fmt: skip
    assert draft(tasks=[], compared=list(COMPARED)).check().pretraining == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"pretraining": {"steps": 1, "epochs": 1}},
        {"pretraining": {"encoder": "local-dir:/x"}},
        {"view": {"size": 2}},
    ],
)
def test_what_cannot_run_is_said(changes):
    with pytest.raises(UserError):
        draft(**changes).check()


def test_a_task_has_settings_of_its_own_and_the_form_shows_them_all():
    from medssl.pretext import tasks

    own = {"simclr": {"temperature": 0.2}, "rotation": {}}
    read = draft(settings=own, pretraining={"steps": 5}).check()
    assert read.pretraining["simclr"].settings == {"temperature": 0.2} and read.pretraining["rotation"].settings == {}
    for task in tasks().values():
        assert set(forms.plain(task.Settings)) <= set(task.Settings.model_fields)
    assert "temperature" in forms.plain(tasks()["simclr"].Settings)


def test_budgets_are_those_that_the_labels_suffice_for():
    assert fitting_budgets(1000, {}) == [2, 5, 10, 25, 50, "all"]
    assert fitting_budgets(12, {}) == [2, "all"] and fitting_budgets(2, {}) == ["all"]
    assert fitting_budgets(40, {"test": 0.1, "validation": 0}) == [2, 5, 10, 25, "all"]


def test_names():
    assert slug("My Scans (2024)!") == "my_scans_2024" and slug("..") == ""
    assert unused("a", set()) == "a" and unused("a", {"a", "a_2"}) == "a_3"


def test_the_help_of_a_field_is_what_its_model_says():
    assert forms.about(Engine)["batch"].startswith("images a step over all processes, or `auto`")
    assert (
        forms.about(Engine)["minutes"] == forms.about(Engine)["steps"]
        and "warm measurement" in forms.about(Engine)["steps"]
    )
    assert forms.about(Fractions)["hold_out"].startswith("a value of `column`")
    for model in (Engine, Experiment, Fractions, View):
        assert set(forms.about(model)) <= set(model.model_fields)
    assert forms.about(Experiment)["draws"].startswith("how often each budget")


class Made(Strict):
    """
    Attributes:
        share: of something.
    """

    share: float = Field(0.5, gt=0, lt=1)
    weight: float = Field(1, ge=0)
    count: int | None = Field(None, ge=2)
    on: bool = False


def page() -> None:
    import sys

    sys.path[:0] = sys.argv[1:2]
    import forms
    import streamlit as st
    from test_drafts import Made

    from medssl.config import Engine, Experiment, View

    found = forms.fields(Made, ["share", "weight", "count", "on"], "made")
    found |= forms.fields(View, ["plane", "size"], "view") | forms.fields(Engine, ["batch"], "engine")
    found |= forms.fields(Experiment, ["budgets"], "experiment")
    st.session_state["found"] = found


def test_fields_have_the_kind_and_the_limits_of_their_model(monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(sys, "argv", ["x", str(main_page().parent)])
    app = AppTest.from_function(page, default_timeout=30).run()
    assert not app.exception and app.session_state["found"] == {}
    share, count, weight, size = app.number_input  # column by column
    assert weight.value == 1.0
    assert share.help == "of something." and 0 < share.min < 0.01 and 0.99 < share.max < 1
    assert count.min == 2 and count.value is None and (size.min, size.max) == (8, 1024)
    assert app.selectbox[0].options == ["axial", "coronal", "sagittal"]
    count.set_value(4)
    app.checkbox[0].check()
    app.selectbox[0].set_value("coronal")
    app.text_input[0].set_value("32")
    app.text_input[1].set_value("2, all")
    app.run()
    expected = {"count": 4, "on": True, "plane": "coronal", "batch": 32, "budgets": [2, "all"]}
    assert app.session_state["found"] == expected
