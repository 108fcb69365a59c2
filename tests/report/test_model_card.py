"""The card says whose figures it shows, of which arm, and what the predictor is not."""

import pytest
from synthetic import predictor, write_experiment

from medssl.experiment import Results
from medssl.figures.words import interval, number
from medssl.report import model_card


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results.open(write_experiment(tmp_path_factory.mktemp("workspace")))


def row(results, arm, budget):
    table = results.scores()
    return table[(table["arm"] == arm) & (table["budget"] == budget) & (table["metric"] == "auc")].iloc[0]


def shown(found):
    return f"{number(found['score'])} | {interval(found['low'], found['high'])}"


def test_it_shows_the_figures_of_its_arm_and_budget(results):
    card = model_card(predictor(), results)
    assert shown(row(results, "pixels", "all")) in card
    assert shown(row(results, "pixels", 5)) not in card and shown(row(results, "simclr", "all")) not in card
    assert shown(row(results, "pixels", 5)) in model_card(predictor(budget=5), results)
    assert "minus scratch" in card and "This" not in card.split("## Figures")[1][:20]
    assert "has no figures with 7 labels a class" in model_card(predictor(budget=7), results)


def test_it_says_what_it_is_and_is_not(results):
    made = predictor(temperature=1.5)
    card = model_card(made, results)
    for words in ("no medical device", "`virtual`", "bright, dark", "size 32", "Made up. Temperature 1.50, from 40",
                  "80 labeled images of 60 patients", "no segmentation"):  # fmt: skip
        assert words in card, words
    assert all(note in card for note in results.notes)
    assert "has no job that was fitted on these labels" in card


def test_fitted_on_all_labels_the_figures_are_not_its_own(results):
    card = model_card(predictor(every=True), results)
    assert "These are not figures of this predictor" in card and shown(row(results, "pixels", "all")) in card
    assert "These are not figures" not in model_card(predictor(), results)
