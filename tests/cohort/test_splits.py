import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.cohort.splits import PARTS, Split, cohort_split, components, grow, split_patients
from medssl.config import Fractions
from medssl.errors import UserError

LABELS = st.sampled_from(["a", "b", None])
ROWS = st.lists(st.tuples(st.integers(0, 40), LABELS, st.integers(0, 60)), min_size=5, max_size=120)


def frame(rows) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient": [f"p{p:02d}" for p, _, _ in rows],
            "label": [label for _, label, _ in rows],
            "ties": [[f"g{g}"] for _, _, g in rows],
        }
    )


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 5))
def test_every_patient_is_in_one_part_and_ties_never_cross(rows, seed):
    patients = frame(rows)
    split = split_patients(patients, Fractions(test=0.3, validation=0.2, seed=seed))
    everyone = [p for part in PARTS for p in getattr(split, part)]
    assert sorted(everyone) == sorted(set(patients["patient"]))
    part = split.part_of()
    for _, tied in patients.explode("ties").groupby("ties"):
        assert len({part[p] for p in tied["patient"]}) == 1
    unlabeled = patients.groupby("patient")["label"].count().eq(0)
    component = components(patients)
    labeled = {component[p] for p in unlabeled.index[~unlabeled]}
    assert all(part[p] == "pool" for p in unlabeled.index if component[p] not in labeled)


def test_shares_and_classes_are_kept():
    patients = frame([(i, "a" if i % 4 else "b", i) for i in range(400)])
    patients["patient"] = [f"p{i:03d}" for i in range(400)]
    split = split_patients(patients, Fractions(test=0.4, validation=0.1))
    assert abs(len(split.test) - 160) <= 1 and abs(len(split.validation) - 40) <= 1
    label = dict(zip(patients["patient"], patients["label"], strict=True))
    assert abs(sum(label[p] == "b" for p in split.test) - 40) <= 1


def test_same_seed_same_split_other_seed_other_split():
    patients = frame([(i, "ab"[i % 2], i) for i in range(41)])
    assert split_patients(patients, Fractions()) == split_patients(patients, Fractions())
    assert split_patients(patients, Fractions()).test != split_patients(patients, Fractions(seed=1)).test


def test_other_keys_for_the_same_patients_give_the_same_split():
    patients = frame([(i % 23, "ab"[i % 2], i % 31) for i in range(60)])
    other = {p: f"q{hash(p) % 9973}" for p in patients["patient"]}
    renamed = patients.assign(patient=patients["patient"].map(other))
    assert {other[p] for p in split_patients(patients, Fractions()).test} == set(
        split_patients(renamed, Fractions()).test
    )


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS)
def test_a_growing_cohort_keeps_its_test_patients(old, new):
    before = frame(old)
    split = split_patients(before, Fractions())
    try:
        after = grow(split, pd.concat([before, frame(new)]))
    except UserError:
        return  # a new tie joins two parts: refused
    assert set(split.test) <= set(after.test) and set(split.validation) <= set(after.validation)
    fresh = set(after.test) - set(split.test)
    component = components(pd.concat([before, frame(new)]))
    assert {component[p] for p in fresh} <= {component[p] for p in split.test}


def test_a_test_patient_who_was_away_comes_back_as_one(tmp_path):
    patients = frame([(i, "ab"[i % 2], i) for i in range(30)])
    first = cohort_split(tmp_path, patients, Fractions())
    without = patients[patients["patient"] != first.test[0]]
    assert first.test[0] in cohort_split(tmp_path, without, Fractions()).test
    assert cohort_split(tmp_path, patients, Fractions()) == first


def test_stored_split_is_reused_and_guarded(tmp_path):
    patients = frame([(i, "ab"[i % 2], i) for i in range(30)])
    first = cohort_split(tmp_path, patients, Fractions())
    assert cohort_split(tmp_path, patients, Fractions()) == first
    with pytest.raises(UserError, match="one split"):
        cohort_split(tmp_path, patients, Fractions(test=0.2))
    raw = json.loads((tmp_path / "split.json").read_text())
    raw["test"].append(raw["pool"].pop())
    (tmp_path / "split.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match="changed by hand"):
        Split.load(tmp_path / "split.json")
