import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medssl.statistics import Evidence, fixed_models
from medssl.statistics.delong import auc_covariance


def kernel(a, b):
    return 1.0 if a > b else 0.5 if a == b else 0.0


def naive_delong(truth, first, second):
    """DeLong (1988), equations 4 to 6, by loops."""
    out = []
    areas = [np.mean([kernel(a, b) for a in s[truth == 1] for b in s[truth == 0]]) for s in (first, second)]
    for i, j in itertools.product(range(2), range(2)):
        total = 0.0
        for cls, other, flip in ((1, 0, 1), (0, 1, -1)):
            parts = []
            for s in (first, second):
                parts.append(
                    np.array(
                        [np.mean([kernel(flip * a, flip * b) for b in s[truth == other]]) for a in s[truth == cls]]
                    )
                )
            n = (truth == cls).sum()
            total += ((parts[i] - areas[i]) * (parts[j] - areas[j])).sum() / (n - 1) / n
        out.append(total)
    return np.array(out).reshape(2, 2)


def test_delong_equals_loops_and_sklearn():
    rng = np.random.default_rng(0)
    truth = (rng.random(50) < 0.4).astype(int)
    scores = np.round(truth + rng.normal(size=(2, 50)) * 1.5, 1)  # with ties
    areas, covariance = auc_covariance(truth, scores)
    assert areas == pytest.approx([roc_auc_score(truth, s) for s in scores])
    assert covariance == pytest.approx(naive_delong(truth, *scores))
    assert auc_covariance(truth, scores, np.arange(50))[1] == pytest.approx(covariance)


def naive_obuchowski(truth, score, patients):
    """Obuchowski (1997), equations 2 to 4, for one model, by loops."""
    x, y = score[truth == 1], score[truth == 0]
    px, py = patients[truth == 1], patients[truth == 0]
    area = np.mean([kernel(a, b) for a in x for b in y])
    v10 = np.array([np.mean([kernel(a, b) for b in y]) for a in x])
    v01 = np.array([np.mean([kernel(a, b) for a in x]) for b in y])
    everyone = sorted({*px, *py})
    i10, i01, total, m, n = len({*px}), len({*py}), len(everyone), len(x), len(y)
    s10 = i10 / ((i10 - 1) * m) * sum((v10[px == p].sum() - (px == p).sum() * area) ** 2 for p in {*px})
    s01 = i01 / ((i01 - 1) * n) * sum((v01[py == p].sum() - (py == p).sum() * area) ** 2 for p in {*py})
    both = [
        (v10[px == p].sum() - (px == p).sum() * area) * (v01[py == p].sum() - (py == p).sum() * area) for p in everyone
    ]
    s11 = total / (total - 1) * sum(both)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def test_obuchowski_equals_loops_and_the_bootstrap_of_patients():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(120), 3)
    truth = (rng.random(360) < np.repeat(rng.random(120), 3)).astype(int)  # patients hold units of both classes
    score = truth + 2 * rng.normal(size=120)[patients] + rng.normal(size=360)
    areas, covariance = auc_covariance(truth, score[None], patients)
    assert covariance[0, 0] == pytest.approx(naive_obuchowski(truth, score, patients))
    boot = []
    for _ in range(500):
        units = np.concatenate([np.arange(3 * p, 3 * p + 3) for p in rng.integers(0, 120, 120)])
        boot.append(roc_auc_score(truth[units], score[units]))
    assert covariance[0, 0] == pytest.approx(np.var(boot), rel=0.2)
    assert covariance[0, 0] != pytest.approx(auc_covariance(truth, score[None])[1][0, 0], rel=0.2)
    assert areas[0] == pytest.approx(roc_auc_score(truth, score))


def test_one_class_is_no_number():
    areas, covariance = auc_covariance(np.zeros(5, int), np.ones((2, 5)))
    assert np.isnan(areas).all() and np.isnan(covariance).all()


def test_fixed_models_pair_the_draws():
    rng = np.random.default_rng(2)
    truth = np.arange(60) % 2
    logits = {arm: truth * gain + rng.normal(size=(3, 60)) for arm, gain in (("a", 2.0), ("b", 1.0))}
    scores = {(arm, 5): np.stack([-x, x], 2)[None] for arm, x in logits.items()}
    draws = {("a", 5): np.array([0, 1, 2]), ("b", 5): np.array([0, 1, 2])}
    evidence = Evidence(["n", "y"], np.arange(60), np.arange(60), truth, scores, draws)
    table = fixed_models(evidence, "a", "b", 5)
    assert table["arm"].tolist() == pytest.approx([roc_auc_score(truth, x) for x in logits["a"]])
    covariance = naive_delong(truth, logits["a"][1], logits["b"][1])
    half = 1.959964 * np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert table["high"][1] - table["difference"][1] == pytest.approx(half)
    assert fixed_models(evidence, "a", "b", 7).empty
