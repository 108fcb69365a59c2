"""Scores of single units, confusion, ROC and calibration against hand-made cases and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from medssl.errors import UserError
from medssl.statistics import Evidence
from medssl.statistics.units import RATES, calibration, confusion, roc, scores_of_unit, unit_scores


def evidence(draws=3, units=60, seed=0, folds=None):
    """Two units a patient, two classes, an arm `a` that knows something and an arm `b` that is sure and wrong."""
    rng = np.random.default_rng(seed)
    truth = np.arange(units) % 2
    logit = 1.2 * (2 * truth - 1) + rng.normal(0, 1.5, (draws, units))
    p = 1 / (1 + np.exp(-logit))
    scores = np.stack([1 - p, p], 2)[None]
    wrong = np.broadcast_to(np.where(truth[:, None] == [0, 1], 0.1, 0.9), (1, draws, units, 2))
    keys, numbers = np.array([f"u{i}" for i in range(units)]), np.arange(draws)
    found, held = {("a", 5): scores, ("b", 5): wrong}, {("a", 5): numbers, ("b", 5): numbers}
    return Evidence(["no", "yes"], keys, np.arange(units) // 2, truth, found, held, folds)


def test_units_have_their_true_classes_score_and_its_range_over_draws():
    made = evidence()
    table = unit_scores(made, "a", 5)
    mine = made.scores["a", 5][0, :, 7, 1]  # unit 7 is of class "yes"
    row = table.iloc[7]
    assert row["unit"] == "u7" and row["patient"] == 3 and row["truth"] == "yes"
    assert np.isclose(row["score"], mine.mean()) and (row["low"], row["high"]) == (mine.min(), mine.max())
    assert np.isclose(row["error"], 1 - mine.mean()) and np.isclose(row["right"], (mine > 0.5).mean())
    assert set(unit_scores(made, "b", 5)["right"]) == {0.0}
    assert (unit_scores(made, "b", 5)["predicted"] != table["truth"]).all()


def test_an_arm_without_results_is_named():
    with pytest.raises(UserError, match="a at 50"):
        unit_scores(evidence(), "a", 50)


def test_one_unit_is_seen_by_every_arm_and_draw():
    table = scores_of_unit(evidence(), "u4", 5)
    assert len(table) == 2 * 3 * 2 and set(table["arm"]) == {"a", "b"}
    assert set(table.loc[(table["arm"] == "b") & (table["cls"] == "no"), "score"]) == {0.1}
    assert scores_of_unit(evidence(), "u4", 2).empty
    with pytest.raises(UserError, match="unknown unit"):
        scores_of_unit(evidence(), "nobody", 5)


def test_confusion_counts_units_of_a_draw():
    table = confusion(evidence(), "b", 5).set_index(["truth", "predicted"])
    assert table.loc[("no", "yes"), "units"] == 30 and table.loc[("no", "no"), "units"] == 0
    mine = confusion(evidence(), "a", 5)
    assert np.isclose(mine["units"].sum(), 60)
    assert np.allclose(mine.groupby("truth")["share"].sum(), 1)


def test_roc_is_scikit_learns_for_one_draw():
    made = evidence(draws=1)
    curve, area = roc(made, "a", 5, "yes")
    score = made.scores["a", 5][0, 0, :, 1]
    alarms, hits, _ = roc_curve(made.truth, score, drop_intermediate=False)
    assert np.isclose(area, roc_auc_score(made.truth, score))
    upper = [hits[alarms <= rate + 1e-12].max() for rate in (0.0, 1.0)]
    assert np.allclose(curve["sensitivity"].iloc[[0, -1]], upper)
    assert np.isclose(np.trapezoid(curve["sensitivity"], RATES), area, atol=0.01)
    mirrored, same = roc(made, "a", 5, "no")
    assert np.isclose(same, area) and not np.allclose(mirrored["sensitivity"], curve["sensitivity"])


def test_roc_over_draws_is_their_mean_within_their_range():
    made = evidence()
    curve, area = roc(made, "a", 5, "yes")
    each = [roc_auc_score(made.truth, s[:, 1]) for s in made.scores["a", 5][0]]
    assert np.isclose(area, np.mean(each))
    assert (curve["low"] <= curve["sensitivity"]).all() and (curve["sensitivity"] <= curve["high"]).all()


def test_cross_fitted_scores_are_compared_within_their_fold():
    """Each fold ranks its own units without fault, on a scale of its own: pooled, the area would be far below 1."""
    folds = np.repeat([[0, 1]], 30, 1).reshape(1, 60)
    made = evidence(draws=1, folds=folds)
    score = np.where(made.truth == 1, 0.2, 0.1) + 0.5 * folds[0]
    made.scores["a", 5] = np.stack([1 - score, score], 1)[None, None]
    curve, area = roc(made, "a", 5, "yes")
    assert area == 1 and (curve["sensitivity"] == 1).all()
    assert roc_auc_score(made.truth, score) < 0.8


def test_calibration_of_scores_that_are_true_and_of_scores_that_are_too_sure():
    rng = np.random.default_rng(0)
    made = evidence(draws=1, units=4000)
    chance = rng.uniform(0, 1, 4000)
    truth = (rng.uniform(size=4000) < chance).astype(int)
    right = Evidence(made.classes, made.units, made.patients, truth, dict(made.scores), made.draws)
    right.scores["a", 5] = np.stack([1 - chance, chance], 1)[None, None]
    table = calibration(right, "a", 5, "yes")
    assert len(table) == 10 and np.allclose(table["predicted"], table["observed"], atol=0.08)
    inside = (table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])
    assert inside.sum() >= 8 and np.isclose(table["units"].sum(), 4000)
    sure = calibration(made, "b", 5, "yes").set_index(calibration(made, "b", 5, "yes")["predicted"].round(1))
    assert sure.loc[0.1, "observed"] == 1 and sure.loc[0.9, "observed"] == 0


def test_bins_with_few_units_say_nothing():
    assert len(calibration(evidence(units=8), "b", 5, "yes")) == 0
