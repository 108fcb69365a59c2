import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from medssl.metrics import accuracy, macro_auc
from medssl.metrics import classification as module


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 80)
    scores = rng.random((4, 80, 3)).round(1)  # rounded: ties matter
    weights = rng.multinomial(80, np.full(80, 1 / 80), size=6)
    return truth, scores, weights


def test_macro_auc_is_sklearns_for_every_draw_and_weighting(predictions):
    truth, scores, weights = predictions
    ours = macro_auc(truth, scores, weights)
    for d in range(4):
        for b in range(6):
            each = [roc_auc_score(truth == c, scores[d, :, c], sample_weight=weights[b]) for c in range(3)]
            assert ours[d, b] == pytest.approx(np.mean(each), abs=1e-6)


def test_two_classes_score_the_second(predictions):
    truth, scores, _ = predictions
    binary = (truth > 0).astype(int)
    ours = macro_auc(binary, scores[:, :, :2], np.ones((1, 80)))[:, 0]
    assert ours[0] == pytest.approx(roc_auc_score(binary, scores[0, :, 1]), abs=1e-6)


def test_blocks_give_the_same_as_one_piece(predictions, monkeypatch):
    truth, scores, weights = predictions
    whole = macro_auc(truth, scores, weights)
    monkeypatch.setattr(module, "BLOCK", 100)
    assert np.allclose(macro_auc(truth, scores, weights), whole)


def test_a_class_that_is_missing_gives_nan(predictions):
    truth, scores, weights = predictions
    weights[0, truth == 1] = 0
    assert np.isnan(macro_auc(truth, scores, weights)[:, 0]).all()
    assert not np.isnan(macro_auc(truth, scores, weights)[:, 1:]).any()


def test_accuracy_is_sklearns(predictions):
    truth, scores, weights = predictions
    ours = accuracy(truth, scores, weights)
    assert ours[2, 3] == pytest.approx(accuracy_score(truth, scores[2].argmax(1), sample_weight=weights[3]))
