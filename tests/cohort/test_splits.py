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


def test_official_parts_are_kept_and_their_faults_said(tmp_path):
    patients = frame([(i, "ab"[i % 2], i) for i in range(30)])
    names = sorted(set(patients["patient"]))
    value = {p: ("Test" if i < 9 else "val" if i < 12 else "train") for i, p in enumerate(names)}
    official = pd.DataFrame({"patient": names[:-1], "value": [value[p] for p in names[:-1]]})
    asked = Fractions(column="split")
    split = cohort_split(tmp_path, patients, asked, official)
    assert split.test == tuple(names[:9]) and split.validation == tuple(names[9:12]) and names[-1] in split.pool
    assert cohort_split(tmp_path, patients, asked, official) == split
    assert Split.load(tmp_path / "split.json") == split
    changed = official.assign(value=official["value"].replace("Test", "train").where(official.index > 0, "test"))
    with pytest.raises(UserError, match="has changed since"):
        cohort_split(tmp_path, patients, asked, changed)
    with pytest.raises(UserError, match="one split"):
        cohort_split(tmp_path, patients, Fractions())
    with pytest.raises(UserError, match="1 patient\\(s\\) into more than one part"):
        cohort_split(tmp_path / "a", patients, asked, pd.concat([official, official.head(1).assign(value="train")]))
    with pytest.raises(UserError, match="'holdout' is no part"):
        cohort_split(tmp_path / "b", patients, asked, official.replace("Test", "holdout"))
    with pytest.raises(UserError, match="no test patient"):
        cohort_split(tmp_path / "c", patients, asked, official[official["value"] != "Test"])


def test_official_parts_that_tear_duplicates_are_kept_and_said(tmp_path, capsys):
    patients = frame([(i, "ab"[i % 2], i % 29) for i in range(30)])  # the first and the last patient share a picture
    names = sorted(set(patients["patient"]))
    official = pd.DataFrame({"patient": names, "value": ["test", *["train"] * (len(names) - 1)]})
    split = cohort_split(tmp_path, patients, Fractions(column="split"), official)
    assert split.test == (names[0],) and len(split.pool) == 29
    assert cohort_split(tmp_path, patients, Fractions(column="split"), official) == split
    said = capsys.readouterr()
    assert "which is the official one" in (said.err + said.out).replace("\n", " ")
