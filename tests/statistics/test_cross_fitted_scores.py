"""Cross-fitted statistics against naive loops over pairs of patients."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from medssl.errors import MedsslError
from medssl.metrics import score_metric
from medssl.statistics import Evidence, Replicates, differences, fixed_models, read_evidence, verdict_sentence
from medssl.statistics.intervals import patient_weights
from medssl.statistics.tables import SEED

FOLDS = 4


def made_up(a_class=16, images=2, repeats=3, gain=(0.8, 1.4), seed=0, classes=2):
    """Evidence of two arms whose models have offsets of their own in every fold."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(classes * a_class), images)
    truth = patients % classes
    folds = np.stack([rng.permutation(classes * a_class) % FOLDS for _ in range(repeats)])[:, patients]
    scores = {}
    own = rng.normal(size=classes * a_class)[patients]
    for arm, strength in zip(("scratch", "simclr"), gain, strict=True):
        logits = rng.normal(size=(len(truth), classes))  # repeats have nearly the same models
        logits[:, -1] += 0.5 * own
        logits = logits + 0.3 * rng.normal(size=(repeats, len(truth), classes))
        logits[:, np.arange(len(truth)), truth] += strength
        logits[:, :, -1] += 3 * rng.normal(size=(repeats, FOLDS))[np.arange(repeats)[:, None], folds]
        scores[arm, "all"] = (np.exp(logits) / np.exp(logits).sum(2, keepdims=True))[None]
    draws = {cell: np.arange(repeats) for cell in scores}
    names = [chr(97 + c) for c in range(classes)]
    units = np.array([f"u{i:03d}" for i in range(len(truth))])
    return Evidence(names, units, patients, truth, scores, draws, folds)


def naive_auc(truth, score, fold, weight):
    """Over all pairs of one positive and one negative unit of the same fold."""
    right = total = 0.0
    for i in np.flatnonzero(truth):
        for j in np.flatnonzero(~truth):
            if fold[i] == fold[j]:
                pair = weight[i] * weight[j]
                total += pair
                right += pair * (float(score[i] > score[j]) + 0.5 * float(score[i] == score[j]))
    return right / total


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_compares_units_of_one_fold_only(classes):
    evidence = made_up(8, 1, classes=classes)
    scores = np.round(evidence.scores["simclr", "all"][0], 1)  # with ties
    weights = np.random.default_rng(1).integers(0, 4, (3, len(evidence.truth))).astype(float)
    found = score_metric("auc", evidence.truth, scores, weights, evidence.folds)
    against = range(1, 2) if classes == 2 else range(classes)
    for d in range(3):
        for b in range(3):
            each = [naive_auc(evidence.truth == c, scores[d, :, c], evidence.folds[d], weights[b]) for c in against]
            assert found[d, b] == pytest.approx(np.mean(each), abs=1e-6)


def test_models_on_different_scales_do_not_spoil_the_auc():
    """Every fold is in perfect order, and the folds' scores are shifted against each other."""
    truth = np.tile([0, 1], 8)
    fold = np.repeat(np.arange(4), 4)
    scores = (truth + 10.0 * fold)[None, :, None] * np.array([-1.0, 1.0])
    ones = np.ones((1, 16))
    assert score_metric("auc", truth, scores, ones, fold[None]).item() == 1
    assert score_metric("auc", truth, scores, ones).item() < 0.7
    right = score_metric("accuracy", truth, scores, ones, fold[None]).item()
    assert right == np.mean(scores[0].argmax(1) == truth), "metrics of single units need no common scale"


def test_scores_and_differences_equal_a_naive_computation():
    evidence, replicates = made_up(), 100
    boot = Replicates(evidence, ["auc"], replicates)
    weights = patient_weights(evidence.patients, replicates, SEED)
    point, resampled = {}, {}
    for arm in ("scratch", "simclr"):
        columns = evidence.scores[arm, "all"][0, :, :, 1]
        point[arm] = np.array([fold_mean(evidence, columns[d], d) for d in range(3)])
        resampled[arm] = np.array(
            [
                [naive_auc(evidence.truth == 1, columns[d], evidence.folds[d], w) for w in weights[:replicates]]
                for d in range(3)
            ]
        )
    value, low, high = boot.score(("simclr", "all", "auc"))
    assert value == pytest.approx(point["simclr"].mean(), abs=1e-6)
    row = differences(boot, ["scratch"], {("simclr", "scratch"): True}).iloc[0]
    gap = point["simclr"] - point["scratch"]
    se, df = by_hand(gap, resampled["simclr"] - resampled["scratch"], patients=32, rare=16)
    assert row["difference"] == pytest.approx(gap.mean(), abs=1e-6)
    half = stats.t.ppf(0.975, df) * se
    assert (row["low"], row["high"]) == pytest.approx((gap.mean() - half, gap.mean() + half), rel=1e-3)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(gap.mean()) / se, df), rel=1e-2)
    se, df = by_hand(point["simclr"], resampled["simclr"], patients=32, rare=16)
    half = stats.t.ppf(0.975, df) * se
    odds, wide = np.log(value / (1 - value)), half / (value * (1 - value))
    ends = 1 / (1 + np.exp(-np.array([odds - wide, odds + wide])))
    assert (low, high) == pytest.approx((ends[0], max(ends[1], min(1, value + half))), rel=1e-3)


def fold_mean(evidence, score, repeat):
    """scikit-learn's area of each fold, weighted by its number of pairs."""
    areas, pairs = [], []
    for fold in range(FOLDS):
        own = evidence.folds[repeat] == fold
        areas.append(roc_auc_score(evidence.truth[own], score[own]))
        pairs.append((evidence.truth[own] == 1).sum() * (evidence.truth[own] == 0).sum())
    return np.average(areas, weights=pairs)


def by_hand(point, resampled, patients, rare):
    """Mean square of repeats, and twice the covariance of two repeats over patients; Satterthwaite."""
    repeats = len(point)
    covariance = np.cov(resampled)
    shared = np.mean([covariance[i, j] for i in range(repeats) for j in range(repeats) if i != j])
    parts = [point.var(ddof=1) / repeats, 2 * max(shared, 0) * patients / (patients - 1)]
    return np.sqrt(sum(parts)), sum(parts) ** 2 / (parts[0] ** 2 / (repeats - 1) + parts[1] ** 2 / (rare - 1))


def test_many_repeats_are_no_new_patients():
    """From 20 draws on a fixed test part is for the bootstrap; repeats never are, and gain next to nothing."""
    few, many = (Replicates(made_up(repeats=n), ["auc"], 300) for n in (5, 40))
    cell = ("simclr", "all", "auc")
    assert not many.by_bootstrap(many.point[cell])
    widths = [boot.score(cell)[2] - boot.score(cell)[1] for boot in (few, many)]
    assert widths[1] > 0.6 * widths[0]


def test_few_patients_few_repeats_and_fixed_models_are_not_estimable():
    for evidence in (made_up(14, images=4), made_up(repeats=2)):
        row = differences(Replicates(evidence, ["auc"], 200), ["scratch"], {("simclr", "scratch"): True}).iloc[0]
        assert np.isnan([row["low"], row["high"], row["p"]]).all() and row["verdict"] == "not estimable"
    assert fixed_models(made_up(), "simclr", "scratch", "all").empty
    part = made_up().part(np.arange(64) < 40)
    assert part.folds.shape == (3, 40)


def rows_of(evidence):
    """Evidence rows as jobs leave them: draw = repeat x folds + fold."""
    rows = []
    for arm, budget in evidence.scores:
        for repeat, fold in np.ndindex(len(evidence.folds), FOLDS):
            for unit in np.flatnonzero(evidence.folds[repeat] == fold):
                for c, name in enumerate(evidence.classes):
                    score = evidence.scores[arm, budget][0, repeat, unit, c]
                    about = (f"{arm}{repeat}{fold}", arm, budget, repeat * FOLDS + fold, evidence.units[unit])
                    rows.append((*about, evidence.patients[unit], name, float(evidence.truth[unit] == c), score))
    return pd.DataFrame(rows, columns="job arm budget draw unit patient cls truth score".split())


def test_the_folds_of_a_repeat_are_read_as_one_draw():
    made = made_up(8)
    rows = rows_of(made)
    found = read_evidence(rows.sample(frac=1, random_state=0).sort_values("job"), FOLDS)
    order = [list(made.units).index(u) for u in found.units]
    assert (found.truth == made.truth[order]).all() and (found.folds == made.folds[:, order]).all()
    for cell in made.scores:
        assert found.scores[cell] == pytest.approx(made.scores[cell][:, :, order]) and list(found.draws[cell]) == [
            0,
            1,
            2,
        ]
    missing = read_evidence(rows[~((rows["arm"] == "simclr") & (rows["draw"] == 5))], FOLDS)
    assert list(missing.draws["simclr", "all"]) == [0, 2] and list(missing.draws["scratch", "all"]) == [0, 1, 2]
    assert differences(Replicates(missing, ["auc"], 100), ["scratch"], {("simclr", "scratch"): True}).empty
    with pytest.raises(MedsslError, match="no repeat has met all"):
        read_evidence(rows[rows["draw"] % FOLDS != 1], FOLDS)


def test_arms_that_met_other_folds_are_refused():
    rows = rows_of(made_up(8))
    swapped = rows["draw"].where(rows["arm"] != "simclr", rows["draw"].map({0: 1, 1: 0}).fillna(rows["draw"]))
    with pytest.raises(MedsslError, match="arms were tested in different folds"):
        read_evidence(rows.assign(draw=swapped.astype(int)), FOLDS)


def test_the_verdict_says_over_whom():
    row = {"arm": "simclr", "baseline": "scratch", "budget": "all", "metric": "auc", "difference": 0.1, "low": 0.01}
    row |= {"high": 0.19, "p_adjusted": 0.03, "claim": True, "verdict": "helps", "same_encoder": True}
    said = verdict_sentence(row, "class", True, (), "cross-fitted over 40 patients")
    assert said.startswith(
        "With all labels, cross-fitted over 40 patients: simclr (this checkpoint) helps over scratch"
    )
