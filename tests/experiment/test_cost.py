"""What an experiment will take: of the right size, and it says no to what cannot run."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import Experiment, validate
from medssl.errors import UserError
from medssl.experiment.cost import A_JOB_S, START_S, cost
from medssl.experiment.plan import make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.experiment.pretraining import encoder_seeds
from medssl.transfer import registry as strategies


@pytest.fixture(scope="module")
def plan_of(tiny_raw, tmp_path_factory):
    """Makes the plan of the tiny experiment with changes."""
    from medssl.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("cost"))

    def make(**changes):
        config = validate(Experiment, {**tiny_raw, **changes}, "tiny")
        return make_plan(config, ensure_cohort(config.cohort, workspace))

    return make


def estimate(plan):
    return cost(plan, encoder_seeds(plan.config), 1)


def test_what_is_more_costs_more(plan_of, tiny_raw):
    plain = estimate(plan_of())
    assert plain.pretraining.keys() == {"simclr"} and 0 < plain.memory < plain.memory_there
    assert plain.seconds == START_S + sum(plain.pretraining.values()) + plain.jobs
    many = {"simclr": {"task": "simclr", "steps": 6000, "batch": 16}}
    long = {**tiny_raw["arms"], "scratch": {"strategy": {"name": "finetune", "min_steps": 3000, "batch": 8}}}
    dear = estimate(plan_of(pretraining=many, arms=long))
    assert dear.pretraining["simclr"] > 50 * plain.pretraining["simclr"]
    assert dear.jobs > 20 * plain.jobs
    assert "pretraining" in str(dear) and "of memory" in str(dear)


def test_pixels_alone_cost_next_to_nothing(plan_of):
    arms = {"pixels": {"encoder": "pixels"}, "again": {"encoder": "pixels", "seed": 1}}
    found = estimate(plan_of(arms=arms, pretraining={}, baseline="pixels", claim=None))
    assert found.pretraining == {} and found.memory == 0 and found.jobs < 5
    assert "of memory" not in str(found)


def test_trials_of_recipes_are_counted(plan_of, monkeypatch):
    """With a second an image that is trained on and none for other things, what is left can be counted by hand."""
    monkeypatch.setattr("medssl.experiment.cost._seconds_an_image", lambda *_: (0.0, 1.0))
    recipe = {"name": "finetune", "min_steps": 3, "batch": 8, "epochs": 0.1}
    arms = {"scratch": {"encoder": "small", "strategy": recipe, "grid": [{"min_steps": 5}]}}
    shape = {"baseline": "scratch", "claim": None, "pretraining": {}, "budgets": [2, 20], "draws": 2}
    tuned = estimate(plan_of(**shape, arms=arms, tuning={"trials": 2}))
    plain = estimate(plan_of(**shape, arms={"scratch": {"encoder": "small", "strategy": recipe}}))
    fits, trials = 2 * (3 * 4 + 3 * 8), 2 * (3 + 5) * 8  # draws x steps x images a step: 4 labels, 40, and 30 of these
    assert plain.jobs == pytest.approx(fits + 4 * A_JOB_S)
    assert tuned.jobs == pytest.approx(plain.jobs + trials + 4 * A_JOB_S)


def test_a_run_that_cannot_be_done_is_said_before_it_begins(plan_of):
    with pytest.raises(UserError, match=r"Did you mean|unknown"):
        estimate(plan_of(pretraining={"simclr": {"task": "simclr", "settings": {"temprature": 1}}}))


def test_the_dry_run_tells_it(tiny_config, tmp_path):
    command = ["run", str(tiny_config()), "--dry-run", "--workspace", str(tmp_path / "w")]
    said = CliRunner().invoke(app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    price = json.loads(said.stdout)["cost"]
    assert {"pretraining", "jobs", "memory", "memory_there", "seconds"} == price.keys()
    assert "On this machine about" in CliRunner().invoke(app, command).stdout


@pytest.mark.parametrize(
    ("strategy", "images"),
    [
        ("finetune", 12),
        ({"name": "fixmatch", "unlabeled": 24}, 12 + 32),
        ({"name": "mean_teacher", "unlabeled": 24}, 12 + 32),
        ({"name": "s4l", "unlabeled": 24}, 12 + 24),
        ({"name": "s4l", "task": "exemplar", "unlabeled": 24}, 12 + 48),
        ("sla", 48),
    ],
)
def test_images_beside_the_labeled_ones_are_counted(strategy, images):
    """12 labeled images are a step's whole batch; each recipe takes a hundred steps of them."""
    name, settings = (strategy, {}) if isinstance(strategy, str) else (strategy["name"], {**strategy})
    settings.pop("name", None)
    assert strategies.strategy(name, settings).images(12, 200) == pytest.approx(100 * images)


def test_what_is_fitted_inside_another_strategy_is_counted():
    plain = strategies.strategy("finetune").images(12, 200)
    student = strategies.strategy("distill", {"teacher": "probe"}).images(12, 200)
    assert student == pytest.approx(200 / 3 + 100 * 32)
    assert strategies.strategy("distill").images(12, 200) == pytest.approx(plain + student)
    again = strategies.strategy("pseudo_labels", {"predictor": "finetune", "rounds": 2})
    assert again.images(12, 200) == plain + 2 * strategies.strategy("finetune").images(200, 200)
