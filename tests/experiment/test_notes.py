"""What a reader is told of recipes and of validation labels."""

import pandas as pd

from medssl.config import Experiment, validate
from medssl.experiment.notes import notes
from medssl.experiment.tuning import tuning_metric

FIXED = "Recipes are the config's own"
TUNED = "With all labels each job chose among 3 recipes"
CALIBRATED = "alidation labels were used for one thing"  # begins a sentence or follows a semicolon


def config(**changes):
    raw = {
        "name": "told",
        "cohort": {"name": "c", "source": "s"},
        "target": {"name": "x"},
        "view": {"size": 32},
        "budgets": [5, "all"],
        "draws": 1,
        "arms": {"pixels": {"encoder": "pixels"}},
        "baseline": "pixels",
        "tuning": {"trials": 3},
    }
    return validate(Experiment, raw | changes, "told")


def told(metrics, tuned, **changes):
    """All notes as one text, of an experiment with these metrics and tuned budgets."""
    jobs, arms = pd.DataFrame({"status": ["done"]}), pd.DataFrame({"encoder": ["pixels"], "size": [0]})
    facts = {"parts": {"validation": {"units": 44}}}
    return " ".join(notes(config(metrics=metrics, **changes), jobs, arms, 0, "", tuned, facts))


def test_tuned_and_calibrated_are_both_said():
    plain = told(["auc"], [])
    assert FIXED in plain and "no validation labels were used" in plain and CALIBRATED not in plain
    warm = told(["auc", "calibrated_brier"], [])
    assert f"every budget; v{CALIBRATED}" in warm and "on 44 labeled images" in warm and "no validation" not in warm
    tuned = told(["auc"], ["all"])
    assert TUNED in tuned and FIXED not in tuned and "validation labels" not in tuned
    assert "Smaller budgets do not hold 20 images of every class" in tuned
    both = told(["auc", "calibrated_brier"], [5, "all"])
    assert "5 and all labels each job chose" in both and "Smaller budgets" not in both
    assert f"fitted again on all of them. V{CALIBRATED}" in both


def test_what_the_loss_does_about_rare_classes_is_said():
    balanced = {"name": "x", "kind": {"name": "classification", "imbalance": "balanced"}}
    assert "In the loss of every arm all classes weigh the same" in told(["auc"], [], target=balanced)
    assert "weigh the same" not in told(["auc"], [])


def test_recipes_are_chosen_without_a_temperature():
    assert tuning_metric(config(metrics=["calibrated_ece", "auc"])) == "ece"
