"""Several labels, grades and numbers, and what the loss does about rare classes."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from medssl.errors import UserError
from medssl.transfer import target_kind

RNG = np.random.default_rng


def units(labels):
    names = [f"u{i}" for i in range(len(labels))]
    return pd.DataFrame({"unit": names, "patient": names, "label": labels})


def test_labels_are_read_from_one_cell():
    target = target_kind("multilabel", ["effusion|nodule", "no finding", "No Finding", "nodule"])
    assert target.classes == ["effusion", "nodule"] and target.outputs == 2
    assert target.encode(["nodule | effusion", "no finding"]).tolist() == [[1, 1], [0, 0]]
    assert target.strata(["effusion|nodule", "no finding"]) == [("effusion", "nodule"), ("no finding",)]
    assert target.said(np.array([[0.9, 0.6], [0.1, 0.2]])).tolist() == ["effusion|nodule", "no finding"]
    rows = target.evidence(units(["nodule", "No finding"]), np.zeros((2, 2)))
    assert rows["cls"].tolist() == ["effusion", "nodule"] * 2 and rows["truth"].tolist() == [0, 1, 0, 0]
    assert (rows["score"] == 0.5).all()
    with pytest.raises(UserError, match="no unit has any label"):
        target_kind("multilabel", ["no finding"])


def test_the_linear_model_of_labels_is_a_logistic_regression_each():
    rng = RNG(0)
    x = rng.normal(size=(60, 5))
    truth = (x[:, :2] + rng.normal(size=(60, 2)) > 0).astype(int)
    weight, bias = target_kind("multilabel", ["a|b"]).fit_linear(x, truth, 3.0)
    for c in range(2):
        oracle = LogisticRegression(C=1 / 3, tol=1e-8).fit(x, truth[:, c])
        assert np.allclose(weight[c], oracle.coef_[0], atol=2e-3) and bias[c] == pytest.approx(
            oracle.intercept_[0], abs=2e-3
        )


def test_a_label_that_no_labeled_unit_has_is_told_to_be_rare():
    x, truth = RNG(0).normal(size=(20, 3)), np.zeros((20, 1), int)
    weight, bias = target_kind("multilabel", ["a"]).fit_linear(x, truth, 1.0)
    assert -12 < bias[0] < -3 and abs(weight).max() < 0.1


def test_grades_have_an_order():
    assert target_kind("ordinal", ["10", "2", "1", "2"]).classes == ["1", "2", "10"]
    words = ["mild", "none", "severe"]
    target = target_kind("ordinal", words, {"grades": ["none", "mild", "severe"]})
    assert target.classes == ["none", "mild", "severe"] and target.encode(["severe", "none"]).tolist() == [2, 0]
    assert target_kind("ordinal", ["0", "1", "2"], {"grades": [2, 1, 0]}).classes == ["2", "1", "0"]
    with pytest.raises(UserError, match=r"order is not known(.|\n)*lowest first"):
        target_kind("ordinal", words)
    with pytest.raises(UserError, match="at least 3"):
        target_kind("ordinal", ["0", "1"])
    with pytest.raises(UserError, match="unknown grade 'severe'"):
        target_kind("ordinal", words, {"grades": ["none", "mild", "moderate"]})
    with pytest.raises(UserError, match="no unit has the grade 'worst'"):
        target_kind("ordinal", words, {"grades": ["none", "mild", "severe", "worst"]})


def test_probabilities_of_grades_hold_their_order_whatever_the_logits():
    target = target_kind("ordinal", list("0123"))
    scores = target.scores(RNG(0).normal(0, 3, (50, 3)))
    assert (scores >= -1e-12).all() and np.allclose(scores.sum(1), 1)
    assert target.scores(np.array([[9.0, 9.0, -9.0]])).argmax() == 2
    assert target.said(target.scores(np.array([[9.0, 0.1, -9.0]]))).tolist() == ["2"]


def test_the_linear_model_of_grades_has_one_direction_and_tells_them():
    rng = RNG(1)
    x = rng.normal(size=(200, 4))
    truth = np.digitize(x[:, 0] + 0.3 * rng.normal(size=200), [-1, 0, 1])
    target = target_kind("ordinal", list("0123"))
    weight, bias = target.fit_linear(x, truth, 1.0)
    assert np.allclose(weight, weight[0]) and (np.diff(bias) < 0).all()
    said = target.said(target.scores(x @ weight.T + bias)).astype(int)
    assert np.abs(said - truth).mean() < 0.35
    one = LogisticRegression(C=1e3).fit(x, truth > 1)
    assert np.corrcoef(weight[0], one.coef_[0])[0, 1] > 0.97


def test_numbers_are_learnt_in_their_own_spread_and_told_in_their_own_unit():
    labels = [str(v) for v in range(10, 100)]
    target = target_kind("regression", labels)
    assert target.columns == ["value"] and target.outputs == 1
    taught = target.taught(np.array([40.0, 60.0]))
    assert taught.learnt() == {"centre": 50.0, "spread": 10.0} and target.learnt()["centre"] == 0
    assert taught.scores(np.array([[1.5]])).tolist() == [[65.0]]
    assert float(taught.loss(torch.tensor([[1.0]]), torch.tensor([50.0]))) == pytest.approx(1)
    again = target_kind("regression", []).relearn(taught.learnt())
    assert again.scores(np.array([[1.5]])).tolist() == [[65.0]]
    assert target.taught(np.array([7.0])).learnt()["spread"] == 1
    rows = taught.evidence(units(["12.5"]), np.array([[0.0]]))
    assert rows[["cls", "truth", "score"]].to_numpy().tolist() == [["value", 12.5, 50.0]]


def test_the_thirds_of_the_values_are_what_units_are_drawn_from():
    target = target_kind("regression", [str(v) for v in range(1, 31)])
    strata = [name for (name,) in target.strata([str(v) for v in range(1, 31)])]
    assert [strata.count(name) for name in dict.fromkeys(strata)] == [10, 10, 10]
    assert strata[0].startswith("up to") and strata[-1].startswith("over")
    zeros = target_kind("regression", ["0"] * 20 + ["1", "2", "3"])
    assert {name for (name,) in zeros.strata(["0", "1", "3"])} == {"up to 0", "over 0"}
    with pytest.raises(UserError, match="the same value"):
        target_kind("regression", ["4", "4"])
    for wrong in ("12 mm", "nan"):
        with pytest.raises(UserError, match="no numbers"):
            target_kind("regression", ["1", wrong])


def test_the_linear_model_of_numbers_is_ridge_regression_and_huber_bears_an_outlier():
    rng = RNG(2)
    x = rng.normal(size=(60, 4))
    truth = 100 + 5 * x[:, 0] + rng.normal(size=60)
    found = {}
    for loss in ("squared", "huber"):
        for spoiled in (False, True):
            y = np.where(np.arange(60) == 0, 1000.0, truth) if spoiled else truth
            target = target_kind("regression", ["1", "2"], {"loss": loss}).taught(truth)
            weight, bias = target.fit_linear(x, y, 1.0)
            found[loss, spoiled] = target.scores(x @ weight.T + bias)[1:, 0]
    assert np.abs(found["squared", False] - truth[1:]).mean() < 1.2
    assert np.allclose(found["squared", False], found["huber", False], atol=1.5)
    off = {loss: np.abs(found[loss, True] - found[loss, False]).max() for loss in ("squared", "huber")}
    assert off["huber"] < off["squared"] / 5


def rare(n=300, seed=3):
    """Two overlapping classes, one in ten of the second."""
    rng = RNG(seed)
    truth = (np.arange(n) % 10 == 0).astype(int)
    return rng.normal(size=(n, 3)) + truth[:, None] * np.array([1.5, 0, 0]), truth


def test_balanced_classes_weigh_the_same_as_scikit_learn_has_it():
    x, truth = rare()
    target = target_kind("classification", ["no", "yes"], {"imbalance": "balanced"}).taught(truth)
    weight, bias = target.fit_linear(x, truth, 2.0)
    oracle = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-8).fit(x, truth)
    assert np.allclose(weight[1] - weight[0], oracle.coef_[0], atol=2e-3)
    assert bias[1] - bias[0] == pytest.approx(oracle.intercept_[0], abs=5e-3)


def test_balancing_finds_more_of_a_rare_class():
    x, truth = rare()
    recall = {}
    for how in ("none", "balanced"):
        target = target_kind("classification", ["no", "yes"], {"imbalance": how}).taught(truth)
        weight, bias = target.fit_linear(x, truth, 2.0)
        fresh, known = rare(seed=4)
        said = (fresh @ weight.T + bias).argmax(1)
        recall[how] = (said == known)[known == 1].mean()
    assert recall["balanced"] > recall["none"] + 0.3


def test_the_focal_loss_is_lins():
    logits, truth = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([0, 1])
    target = target_kind("classification", ["a", "b"], {"imbalance": "focal", "focus": 2.0}).taught(np.array([0, 1]))
    chance = logits.softmax(1)[[0, 1], truth]
    assert float(target.loss(logits, truth)) == pytest.approx(float((-((1 - chance) ** 2) * chance.log()).mean()))
    assert float(target.likelihood(logits, truth)) == pytest.approx(float(F.cross_entropy(logits, truth)))


def test_weights_come_from_the_labeled_units_on_both_sides_of_a_label():
    target = target_kind("multilabel", ["a", "b"], {"imbalance": "balanced"})
    truth = np.array([[1, 0]] + [[0, 0]] * 9)
    taught = target.taught(truth)
    logits, known = torch.zeros(10, 2), torch.from_numpy(truth)
    losses = taught.weigh(taught.errors(logits, known), known)
    assert float(losses[0, 0]) == pytest.approx(float(losses[1:, 0].sum()))
    assert torch.allclose(losses[:, 1], torch.full((10,), np.log(2.0)))  # a label that nobody has
    assert target.weights is None  # the target itself is as it was
