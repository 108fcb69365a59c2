import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from medssl.config import Claim
from medssl.statistics import (
    Estimate,
    Replicates,
    differences,
    margin_sentence,
    read_evidence,
    readers,
    scores,
    verdict_sentence,
)


def tables(rows, baselines=("scratch",), replicates=300):
    evidence = read_evidence(rows)
    boot = Replicates(evidence, ["auc", "accuracy"], replicates)
    arms = {arm for arm, _ in evidence.scores}
    same = {(a, b): a[0] == b[0] for a in arms for b in arms}
    return scores(boot), differences(boot, baselines, same)


def test_scores_hold_the_mean_inside_the_interval_and_count_units(evidence_rows):
    table, _ = tables(evidence_rows({"scratch": 0.3, "simclr": 1.5}))
    assert (table["low"] < table["score"]).all() and (table["score"] < table["high"]).all()
    assert set(table["units"]) == {120} and set(table["patients"]) == {60} and set(table["draws"]) == {6}
    assert table["budget"].tolist()[:1] in ([5], ["all"])


def test_verdicts_on_a_clear_gain_on_none_and_on_a_loss(evidence_rows):
    _, table = tables(evidence_rows({"scratch": 0.5, "simclr": 2.0, "same": 0.5, "worse": -0.5}))
    auc = table[(table["metric"] == "auc") & (table["budget"] == 5)].set_index("arm")
    assert auc["verdict"].to_dict() == {"simclr": "helps", "same": "no evidence", "worse": "hurts"}
    assert auc["same_encoder"].to_dict() == {"simclr": True, "same": True, "worse": False}


def test_an_arm_against_its_own_copy_shows_nothing(evidence_rows):
    rows = evidence_rows({"scratch": 1.0})
    copy = rows.assign(arm="copy", job="copy" + rows["job"])
    _, table = tables(pd.concat([rows, copy]))
    assert (table["difference"] == 0).all() and (table["verdict"] == "no evidence").all()


@pytest.mark.parametrize("shape", [{"draws": 2}, {"patients": 14, "images": 2}])
def test_too_little_for_an_interval_is_not_estimable(evidence_rows, shape):
    table, pairs = tables(evidence_rows({"scratch": 0.5, "simclr": 2.0}, **shape))
    assert table[["low", "high"]].isna().all().all() and (pairs["verdict"] == "not estimable").all()
    assert table["score"].notna().all()


def test_a_run_that_is_not_finished_is_not_paired(evidence_rows):
    rows = evidence_rows({"scratch": 0.5, "simclr": 2.0})
    table, pairs = tables(rows[~((rows.arm == "simclr") & (rows.budget == "all") & (rows.draw == 5))])
    assert set(pairs["budget"]) == {5} and len(table) == 8


def test_scores_and_differences_equal_their_parts(evidence_rows):
    boot = Replicates(read_evidence(evidence_rows({"scratch": 0.3, "simclr": 1.5})), ["auc"], 300)
    cell, other = ("simclr", 5, "auc"), ("scratch", 5, "auc")
    gap, boots = boot.point[cell] - boot.point[other], boot.boot[cell].astype(float) - boot.boot[other]
    covariance = np.mean([np.cov(boots[0, i], boots[0, j])[0, 1] for i in range(6) for j in range(6) if i != j])
    expected = readers(gap, covariance * 60 / 59, 29)
    table = differences(boot, ["scratch"], {("simclr", "scratch"): True}).set_index("budget")
    assert table["p"][5] == pytest.approx(expected.p(), rel=1e-3)
    assert (table["low"][5], table["high"][5]) == pytest.approx(expected.interval(), rel=1e-3)
    value, low, high = boot.score(cell)
    middle = np.log(value / (1 - value))
    assert np.log(low / (1 - low)) + np.log(high / (1 - high)) == pytest.approx(2 * middle)


def test_from_twenty_draws_on_the_bootstrap_gives_the_interval(evidence_rows):
    boot = Replicates(read_evidence(evidence_rows({"scratch": 0.3, "simclr": 0.5}, ("5",), draws=20)), ["auc"], 600)
    row = differences(boot, ["scratch"], {("simclr", "scratch"): True}).iloc[0]
    pair = boot.paired(("simclr", 5, "auc"), ("scratch", 5, "auc"))
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(boot.replicates(*pair), [0.025, 0.975])))
    t_form = boot.estimate(*pair).interval()
    assert (row["low"], row["high"]) == pytest.approx(t_form, abs=0.2 * (t_form[1] - t_form[0]))
    low, high = boot.score(("simclr", 5, "auc"))[1:]
    assert low < boot.point["simclr", 5, "auc"].mean() < high


def test_the_claim_stands_alone_and_the_rest_is_corrected(evidence_rows):
    rows = evidence_rows({"scratch": 0.5, "simclr": 0.75, "other": 0.7})
    evidence = read_evidence(rows)
    boot = Replicates(evidence, ["auc", "accuracy"], 300)
    same = {(a, "scratch"): True for a in ("simclr", "other")}
    claim = Claim(arm="simclr", baseline="scratch", budget=5)
    table = differences(boot, ["scratch"], same, claim)
    assert table["claim"].sum() == 1
    own, explored = table[table["claim"]].iloc[0], table[~table["claim"]]
    assert own["p_adjusted"] == own["p"] and (own["arm"], own["budget"], own["metric"]) == ("simclr", 5, "auc")
    for metric, family in explored.groupby("metric"):
        assert family["p_adjusted"].to_numpy() == pytest.approx(multipletests(family["p"], method="holm")[1]), metric
    said = table["verdict"].isin(["helps", "hurts"])
    assert (said == (table["p_adjusted"] < 0.05)).all()
    assert differences(boot, ["scratch"], same)["p_adjusted"].min() >= table["p_adjusted"].min()


def test_less_is_better_for_calibration(evidence_rows):
    rows = evidence_rows({"scratch": 0.2, "simclr": 2.5})
    boot = Replicates(read_evidence(rows), ["brier"], 200)
    table = differences(boot, ["scratch"], {("simclr", "scratch"): True})
    assert (table["difference"] < 0).all() and set(table["verdict"]) == {"helps"}
    assert boot.gain("brier", *boot.paired(("simclr", 5, "brier"), ("scratch", 5, "brier"))).value > 0
    sentence = verdict_sentence({**table.iloc[0], "comparisons": 2}, "class", False)
    assert "lower is better" in sentence and "helps" in sentence


def test_several_pretraining_runs_are_a_factor_of_their_own(evidence_rows):
    one = evidence_rows({"scratch": 0.5, "simclr": 1.0}, ("5",))
    runs = []
    for run, shift in enumerate((-1.0, 0.0, 1.0)):
        part = one[one["arm"] == "simclr"].assign(run=run, job=lambda t, r=run: t["job"] + str(r))
        own = part["truth"] * np.where(part["cls"] == "yes", 1, -1) * shift
        runs.append(part.assign(score=part["score"] + 0.4 * own.where(part["cls"] == "yes", -own)))
    rows = pd.concat([one[one["arm"] == "scratch"].assign(run=0), *runs])
    boot = Replicates(read_evidence(rows), ["auc"], 300)
    table = differences(boot, ["scratch"], {("simclr", "scratch"): True})
    single = tables(one)[1].query("metric == 'auc'")
    assert boot.point["simclr", 5, "auc"].shape == (3, 6) and table["pretrain_seeds"].tolist() == [3]
    width = lambda t: float((t["high"] - t["low"]).iloc[0])  # noqa: E731
    assert width(table) > 2 * width(single)


def test_constant_scores_and_a_test_set_of_one_class_are_marked(evidence_rows):
    rows = evidence_rows({"scratch": 0.5, "flat": 0.5})
    rows.loc[rows["arm"] == "flat", "score"] = 0.5
    table, pairs = tables(rows)
    flat = table[(table["arm"] == "flat") & (table["metric"] == "auc")]
    assert flat["score"].tolist() == [0.5, 0.5] and flat["low"].isna().all()
    assert pairs["verdict"].notna().all()
    yes = rows[rows.groupby("unit")["truth"].transform("first").eq(rows["truth"]) | True]
    one = yes[yes["unit"].isin(yes.loc[(yes["cls"] == "yes") & (yes["truth"] == 1), "unit"])]
    table, pairs = tables(one)
    assert table.loc[table["metric"] == "auc", "score"].isna().all()
    assert table["low"].isna().all() and set(pairs["verdict"]) == {"not estimable"}


def test_two_patients_in_a_class_are_not_estimable(evidence_rows):
    rows = evidence_rows({"scratch": 0.5, "simclr": 2.0}, patients=60, images=10)
    few = rows[(rows["truth"] == (rows["cls"] == "no")) | rows["patient"].isin(["p001", "p003"])]
    table, _ = tables(few)
    assert table["low"].isna().all() and table["score"].notna().all()


def test_margins_are_said_as_far_as_they_hold():
    say = lambda value, se=0.005: margin_sentence("a", "b", "auc", 0.02, Estimate(value, se, 20))  # noqa: E731
    assert say(0.0).startswith("a and b are equivalent within 0.02 (auc; two one-sided tests, p < .001)")
    assert say(0.03).startswith("a is no worse than b by a margin of 0.02")
    assert say(-0.03).startswith("a may be worse than b by a margin of 0.02 (auc; one-sided p = .97")
    assert "not estimable" in say(0.0, np.nan)


def test_sentences_say_what_the_interval_says():
    row = {
        "arm": "simclr",
        "baseline": "scratch",
        "budget": 5,
        "metric": "auc",
        "difference": 0.05,
        "same_encoder": True,
    }
    row |= {"claim": False, "p_adjusted": 0.0123, "comparisons": 12}
    helps = verdict_sentence({**row, "low": 0.02, "high": 0.08, "verdict": "helps"}, "class", True)
    assert helps == (
        "With 5 labels a class: simclr (this checkpoint) helps over scratch by AUC +0.050 [+0.020, +0.080], "
        "p = .012 after correction for 12 comparisons."
    )
    claimed = {**row, "low": 0.02, "high": 0.08, "verdict": "helps", "claim": True, "p_adjusted": 0.0004}
    assert verdict_sentence(claimed, "class", True).endswith("[+0.020, +0.080], p < .001, named beforehand.")
    unlike = {**row, "low": 0.02, "high": 0.08, "verdict": "helps"}
    assert "differ" not in verdict_sentence(unlike, "class", True, ("probe", "probe"))
    assert verdict_sentence(unlike, "class", True, ("propagate", "finetune")).endswith(
        "The strategies differ too (propagate against finetune)."
    )
    none = verdict_sentence({**row, "low": -0.01, "high": 0.1, "verdict": "no evidence"}, "total", False)
    assert none.startswith("With 5 labels: no evidence of a difference between simclr and scratch")
    across = verdict_sentence(
        {**row, "low": np.nan, "high": np.nan, "verdict": "not estimable", "same_encoder": False}, "class", True
    )
    assert "not estimable" in across and "nan" not in across and "Different encoders" in across
