import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort.budgets import draw_budgets
from medssl.errors import UserError


@st.composite
def pools(draw):
    rows = []
    for label in "abc"[: draw(st.integers(2, 3))]:
        for patient in range(draw(st.integers(6, 15))):
            shared = draw(st.booleans())  # a patient who also has units of other classes
            key = f"{patient}" if shared else f"{label}{patient}"
            rows += [(key, label) for _ in range(draw(st.integers(1, 4)))]
    units = pd.DataFrame(rows, columns=["patient", "label"])
    units["unit"] = [f"u{i}" for i in range(len(units))]
    return units


@settings(max_examples=60, deadline=None)
@given(pools(), st.integers(0, 3))
def test_budgets_nest_are_stratified_and_spread_over_patients(units, seed):
    budgets = [1, 2, 5, "all"]
    plan = draw_budgets(units, budgets, "class", draws=3, seed=seed)
    label, patient = units.set_index("unit")["label"], units.set_index("unit")["patient"]
    for draw in plan.values():
        assert set(draw[1]) <= set(draw[2]) <= set(draw[5]) <= set(draw["all"])
        assert sorted(draw["all"]) == sorted(units["unit"])
        for n in (1, 2, 5):
            assert len(set(draw[n])) == len(draw[n])
            assert (label[draw[n]].value_counts() == n).all() and label[draw[n]].nunique() == label.nunique()
            for c in label.unique():  # a second unit of a patient only where every patient of the class has one
                mine = [u for u in draw[n] if label[u] == c]
                if patient[mine].duplicated().any():
                    assert set(patient[label == c]) <= set(patient[draw[n]])


@settings(max_examples=40, deadline=None)
@given(pools(), st.integers(3, 12))
def test_totals_follow_the_shares_of_the_classes(units, n):
    plan = draw_budgets(units, [3, n] if n > 3 else [3], "total", draws=2, seed=0)
    share = units["label"].value_counts(normalize=True)
    for draw in plan.values():
        counts = units.set_index("unit").loc[draw[n], "label"].value_counts()
        assert counts.sum() == n and len(counts) == len(share)
        assert all(abs(counts[c] - share[c] * n) < 2 for c in share.index)


def test_draws_differ_and_repeat():
    units = pd.DataFrame({"unit": [f"u{i}" for i in range(60)], "patient": range(60), "label": list("ab") * 30})
    plan = draw_budgets(units, [5], "class", draws=4, seed=0)
    assert len({tuple(sorted(d[5])) for d in plan.values()}) == 4
    assert plan == draw_budgets(units, [5], "class", draws=4, seed=0)
    assert plan[0][5] == draw_budgets(units, [5, "all"], "class", draws=1, seed=0)[0][5]


def test_too_few_patients_names_class_and_budget():
    units = pd.DataFrame({"unit": list("uvwxyz"), "patient": list("ppqrst"), "label": list("aaabbb")})
    with pytest.raises(UserError, match=r"class 'a' has 2 patients in the pool, fewer than the budget of 3"):
        draw_budgets(units, [2, 3], "class", draws=1, seed=0)
    with pytest.raises(UserError, match="cannot hold one unit"):
        draw_budgets(units, [1], "total", draws=1, seed=0)
