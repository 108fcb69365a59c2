import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from medssl.statistics import (
    Replicates,
    area,
    full_shares,
    label_savings,
    read_evidence,
    savings_sentence,
    share_sentence,
    smallest_budget,
)
from medssl.statistics.curves import monotone

LABELS = {2: 4, 5: 10, 10: 20, "all": 80}


@pytest.fixture(scope="module")
def boot():
    return curve_of({"slow": [0.1, 0.3, 0.5, 0.8], "quick": [0.5, 0.7, 0.8, 0.9], "best": [2, 2, 2, 2]})


def curve_of(abilities, draws=6, seed=0, patients=80):
    """Arms whose ability at each budget is known."""
    rng = np.random.default_rng(seed)
    truth = np.arange(patients) % 2
    hard = rng.normal(size=patients)
    rows = []
    for arm, levels in abilities.items():
        for budget, level in zip(LABELS, levels, strict=True):
            for draw in range(draws):
                score = 1 / (1 + np.exp(-(level * (2 * truth - 1) + hard + 0.3 * rng.normal(size=patients))))
                for cls, value in (("no", 1 - score), ("yes", score)):
                    about = {"job": f"{arm}{budget}{draw}", "arm": arm, "budget": str(budget), "draw": draw, "cls": cls}
                    frame = pd.DataFrame({"unit": np.arange(patients), "patient": np.arange(patients), "score": value})
                    rows.append(frame.assign(truth=(truth == (cls == "yes")).astype(float), **about))
    return Replicates(read_evidence(pd.concat(rows)), ["auc"], 400)


def test_monotone_equals_sklearn():
    heights = np.random.default_rng(0).random(12) + np.arange(12) * 0.05
    expected = IsotonicRegression().fit_transform(np.arange(12), heights)
    assert monotone(heights) == pytest.approx(expected)


def test_area_is_the_mean_height_over_log_labels(boot):
    table = area(boot, "auc", LABELS).set_index("arm")
    x = np.log(list(LABELS.values()))
    heights = [boot.point["slow", b, "auc"].mean() for b in LABELS]
    assert table["area"]["slow"] == pytest.approx(np.trapezoid(heights, x) / (x[-1] - x[0]))
    assert (table["low"] < table["area"]).all() and (table["area"] < table["high"]).all()


def test_savings_read_the_baseline_backwards(boot):
    table = label_savings(boot, "quick", "slow", "auc", LABELS).set_index("budget")
    heights = monotone(np.array([boot.point["slow", b, "auc"].mean() for b in LABELS]))
    score = boot.point["quick", 2, "auc"].mean()
    needed = np.exp(np.interp(score, heights, np.log(list(LABELS.values()))))
    assert table["factor"][2] == pytest.approx(needed / 4) and table["beyond"][2][0] == " "
    assert table["low"][2] <= table["factor"][2] <= table["high"][2]
    sentence = savings_sentence(table.reset_index().to_dict("records")[0], "class")
    assert sentence.startswith(f"Labels saved: slow needs {needed / 4:.1f} times as many labels as quick with 2 labels")


def test_savings_beyond_the_curve_are_bounds(boot):
    above = label_savings(boot, "best", "slow", "auc", LABELS).set_index("budget")
    assert above["factor"][2] == pytest.approx(20) and above["beyond"][2] == ">>>"
    assert "needs >20.0 times" in savings_sentence(above.reset_index().to_dict("records")[0], "class")
    below = label_savings(boot, "slow", "best", "auc", LABELS).set_index("budget")
    assert below["factor"]["all"] == pytest.approx(4 / 80) and below["beyond"]["all"][0] == "<"


def test_an_arm_against_its_copy_saves_nothing(boot):
    table = label_savings(boot, "slow", "slow", "auc", LABELS)
    assert table["factor"].tolist() == pytest.approx([1.0] * 4)


def test_smallest_budget_is_where_the_fraction_is_reached(boot):
    full = boot.point["quick", "all", "auc"].mean()
    ratio = {b: boot.point["quick", b, "auc"].mean() / full for b in LABELS}
    expected = next((b for b in LABELS if b != "all" and ratio[b] >= 0.95), None)
    by_mean, surely = smallest_budget(boot, "quick", "auc", LABELS)
    assert by_mean == expected and (surely is None or LABELS[surely] >= LABELS[by_mean])
    assert smallest_budget(boot, "best", "auc", LABELS, 0.5) == (2, 2)


def test_too_few_draws_give_a_factor_without_an_interval():
    few = curve_of({"slow": [0.1, 0.4, 0.8, 1.5], "quick": [0.8, 1.2, 1.5, 1.6]}, draws=2)
    table = label_savings(few, "quick", "slow", "auc", LABELS)
    assert table["low"].isna().all() and table["factor"].notna().all()
    assert "not estimable" in savings_sentence(table.to_dict("records")[0], "class")


def test_shares_are_of_the_best_arm_with_the_most_labels(boot):
    table = full_shares(boot, "auc", LABELS).set_index(["arm", "budget"])
    best = boot.point["best", "all", "auc"].mean()
    assert ("best", "all") not in table.index and len(table) == 11 and set(table["best"]) == {"best"}
    for (arm, budget), row in table.iterrows():
        assert row["share"] == pytest.approx(boot.point[arm, budget, "auc"].mean() / best)
        assert row["low"] < row["share"] < row["high"] and row["score"] == pytest.approx(best)
    sentence = share_sentence(table.loc[[("quick", 2)]].reset_index().to_dict("records")[0], "class")
    share = table["share"]["quick", 2]
    assert (
        f"quick with 2 labels a class has {share:.1%} of the best AUC with all labels (best, {best:.3f}), [" in sentence
    )


def test_the_interval_of_a_share_is_that_of_the_resampled_ratio(boot):
    row = full_shares(boot, "auc", LABELS).set_index(["arm", "budget"]).loc["slow", 5]
    above, below = boot.point["slow", 5, "auc"], boot.point["best", "all", "auc"]
    ratios = boot.boot["slow", 5, "auc"].mean((0, 1)) / boot.boot["best", "all", "auc"].mean((0, 1))
    assert row["share"] == pytest.approx(above.mean() / below.mean())
    assert (row["high"] - row["low"]) / 2 == pytest.approx(2 * ratios.std(), rel=0.35)  # draws hardly differ here


def test_shares_need_more_to_be_better_and_the_same_draws():
    assert full_shares(curve_of({"one": [0.1, 0.4, 0.8, 1.5]}), "brier", LABELS).empty
    few = full_shares(curve_of({"one": [0.1, 0.4, 0.8, 1.5]}, draws=2), "auc", LABELS)
    assert few["low"].isna().all() and few["share"].notna().all()
    assert "not estimable" in share_sentence(few.to_dict("records")[0], "class")
