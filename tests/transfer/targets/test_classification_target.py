import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from medssl.errors import UserError
from medssl.transfer import target_kind


def test_labels_are_encoded_and_one_class_is_refused():
    target = target_kind("classification", ["b", "a", "c", "a"])
    assert target.classes == ["a", "b", "c"] and target.encode(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(UserError, match="all labels are"):
        target_kind("classification", ["a", "a"])


def test_linear_model_is_penalised_logistic_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    target = target_kind("classification", list("abc"))
    weight, bias = target.fit_linear(x, y, penalty=2.0)
    logits = x @ weight.T + bias
    expected = LogisticRegression(C=0.5, max_iter=1000, tol=1e-9).fit(x, y).predict_proba(x)
    assert np.allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-5)


def test_a_class_without_labels_gets_no_share():
    target = target_kind("classification", list("abc"))
    x = np.array([[0.0], [1.0], [0.1], [0.9]])
    weight, bias = target.fit_linear(x, np.array([0, 1, 0, 1]), 1.0)
    unit = pd.DataFrame({"unit": ["u"], "patient": ["p"], "label": ["c"]})
    rows = target.evidence(unit, x[:1] @ weight.T + bias)
    assert rows["truth"].tolist() == [0, 0, 1] and rows["score"].sum() == pytest.approx(1)
    assert rows["score"].iloc[2] < 1e-6 and rows["cls"].tolist() == ["a", "b", "c"]
