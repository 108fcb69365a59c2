import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort.folds import draw_folds
from medssl.errors import UserError


@st.composite
def labeled(draw):
    """Units and ties: patients with one to three units of a class, some pairs of patients tied, some unlabeled."""
    rows, ties = [], []
    for label in "ab":
        for patient in range(draw(st.integers(8, 14))):
            key = f"{label}{patient}"
            rows += [(key, label) for _ in range(draw(st.integers(1, 3)))]
            ties.append((key, [f"pair {patient // 2}"] if draw(st.booleans()) and patient < 4 else []))
    units = pd.DataFrame(rows, columns=["patient", "label"])
    units["unit"] = [f"u{i}" for i in range(len(units))]
    return units, pd.DataFrame([*ties, ("stranger", [])], columns=["patient", "ties"])


@settings(max_examples=40, deadline=None)
@given(labeled(), st.integers(2, 4), st.integers(0, 3))
def test_every_unit_is_tested_once_a_repeat_and_ties_stay_in_one_fold(cohort, folds, seed):
    units, ties = cohort
    found = draw_folds(units, ties, folds, 3, seed)
    label, patient = units.set_index("unit")["label"], units.set_index("unit")["patient"]
    tied = ties.set_index("patient")["ties"]
    for repeat in found:
        assert len(repeat) == folds and sorted(u for fold in repeat for u in fold) == sorted(units["unit"])
        fold_of = {patient[u]: number for number, fold in enumerate(repeat) for u in fold}
        assert sum(len(set(patient[fold])) for fold in repeat) == len(fold_of), "a patient lies in two folds"
        homes = {}
        for key, fold in fold_of.items():
            for tie in tied[key]:
                homes.setdefault(tie, set()).add(fold)
        assert all(len(where) == 1 for where in homes.values())
        assert all(set(label[fold]) == {"a", "b"} for fold in repeat)


def plain(a=10, b=10):
    units = pd.DataFrame({"patient": [f"p{i}" for i in range(a + b)], "label": ["a"] * a + ["b"] * b})
    units["unit"] = units["patient"].str.replace("p", "u")
    return units, pd.DataFrame({"patient": units["patient"], "ties": [[] for _ in range(a + b)]})


def test_repeats_and_seeds_differ_classes_are_spread_evenly_and_keys_do_not_count():
    units, ties = plain(10, 15)
    first, again = draw_folds(units, ties, 5, 2, 0), draw_folds(units, ties, 5, 2, 0)
    assert first == again and first[0] != first[1] and first != draw_folds(units, ties, 5, 2, 1)
    label = units.set_index("unit")["label"]
    assert all(label[fold].value_counts().to_dict() == {"a": 2, "b": 3} for repeat in first for fold in repeat)
    other = [f"z{len(units) - i}" for i in range(len(units))]
    renamed = units.assign(patient=other)
    assert draw_folds(renamed, ties.assign(patient=other), 5, 2, 0) == first


def test_a_patient_with_units_of_two_classes_is_in_one_fold():
    units, ties = plain()
    both = pd.DataFrame({"patient": ["p0"], "label": ["b"], "unit": ["extra"]})
    (repeat,) = draw_folds(pd.concat([units, both], ignore_index=True), ties, 5, 1, 0)
    assert sum({"u0", "extra"} <= set(fold) for fold in repeat) == 1


def test_too_few_patients_of_a_class_and_one_class_are_refused():
    with pytest.raises(UserError, match=r"class 'a' has 4 patient\(s\), fewer than 5 folds.*\n.*at most 4 folds"):
        draw_folds(*plain(4, 20), 5, 1, 0)
    with pytest.raises(UserError, match=r"class 'a' has 1 patient\(s\).*\n.*Label more"):
        draw_folds(*plain(1, 20), 2, 1, 0)
    units, ties = plain()
    with pytest.raises(UserError, match=r"1 class\(es\); at least 2"):
        draw_folds(units[units["label"] == "a"], ties, 2, 1, 0)


def test_tied_patients_count_as_one():
    units, ties = plain(6, 20)
    ties.loc[:2, "ties"] = pd.Series([["family"]] * 3)
    with pytest.raises(UserError, match=r"class 'a' has 4 patient\(s\), fewer than 5 folds"):
        draw_folds(units, ties, 5, 1, 0)
