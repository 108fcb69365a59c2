import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from medssl.metrics import accuracy, macro_auc


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


def test_a_class_that_is_missing_gives_nan(predictions):
    truth, scores, weights = predictions
    weights[0, truth == 1] = 0
    assert np.isnan(macro_auc(truth, scores, weights)[:, 0]).all()
    assert not np.isnan(macro_auc(truth, scores, weights)[:, 1:]).any()


def test_accuracy_is_sklearns(predictions):
    truth, scores, weights = predictions
    ours = accuracy(truth, scores, weights)
    assert ours[2, 3] == pytest.approx(accuracy_score(truth, scores[2].argmax(1), sample_weight=weights[3]))


def test_the_other_metrics_equal_sklearn_and_naive_loops_under_weights():
    from sklearn.metrics import balanced_accuracy_score, roc_curve

    from medssl.metrics import METRICS

    rng = np.random.default_rng(8)
    truth, scores = rng.integers(0, 3, 90), rng.dirichlet(np.ones(3), (2, 90))
    weights = rng.integers(0, 4, (5, 90))
    found = {name: METRICS[name](truth, scores, weights) for name in METRICS}
    for d in range(2):
        for b in range(5):
            rows = np.repeat(np.arange(90), weights[b])
            t, s = truth[rows], scores[d, rows]
            assert found["balanced_accuracy"][d, b] == pytest.approx(balanced_accuracy_score(t, s.argmax(1)))
            assert found["brier"][d, b] == pytest.approx(np.mean(((s - np.eye(3)[t]) ** 2).sum(1)))
            best = []
            for c in range(3):
                false, true, _ = roc_curve(t == c, s[:, c], drop_intermediate=False)
                best.append(true[false <= 0.1 + 1e-12].max())
            assert found["sensitivity_at_90"][d, b] == pytest.approx(np.mean(best))
            sure, right = s.max(1), s.argmax(1) == t
            gaps = 0.0
            for k in range(15):
                inside = (sure > k / 15) & (sure <= (k + 1) / 15)
                gaps += abs(right[inside].sum() - sure[inside].sum())
            assert found["ece"][d, b] == pytest.approx(gaps / len(rows))


def test_metrics_of_one_class_are_no_number():
    from medssl.metrics import METRICS

    scores = np.random.default_rng(0).random((2, 6, 2))
    for name in ("auc", "sensitivity_at_90", "balanced_accuracy"):
        assert np.isnan(METRICS[name](np.ones(6, int), scores, np.ones((1, 6)))).all()
