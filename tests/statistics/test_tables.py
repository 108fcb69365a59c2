import numpy as np
import pandas as pd
import pytest

from medssl.statistics import Replicates, differences, read_evidence, scores, verdict_sentence


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


def test_sentences_say_what_the_interval_says():
    row = {
        "arm": "simclr",
        "baseline": "scratch",
        "budget": 5,
        "metric": "auc",
        "difference": 0.05,
        "same_encoder": True,
    }
    helps = verdict_sentence({**row, "low": 0.02, "high": 0.08, "verdict": "helps"}, "class", True)
    assert helps == (
        "With 5 labels a class: simclr (this checkpoint) helps over scratch by AUC +0.050 [+0.020, +0.080]."
    )
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
