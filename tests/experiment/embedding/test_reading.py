"""The probe that asks what an encoder knows: planted facts are read, chance is .5, and no patient is met twice."""

import numpy as np
import pandas as pd
import pytest

from medssl.experiment import embedding as room
from medssl.experiment.embedding.facts import LABEL, PART, PATIENT


def planted(strength=2.0, patients=100, seed=0):
    """(features, values, patients): two scans a patient; the first axis holds the value."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    value = owner % 2
    x = rng.normal(size=(2 * patients, 8))
    x[:, 0] += strength * value
    return x.astype(np.float32), ["AB"[v] for v in value], [f"p{o}" for o in owner]


def test_a_planted_fact_is_read_with_an_interval_around_it():
    found = room.read_out("vendor", *planted())
    assert 0.85 < found.auc < 0.98 and found.low < found.auc < found.high
    assert found.values == ["A", "B"] and (found.scans, found.patients) == (200, 100)


def test_what_is_not_there_is_read_by_chance_alone():
    found = room.read_out("vendor", *planted(strength=0))
    assert found.low < 0.5 < found.high and found.high - found.low < 0.3


def test_a_probe_never_meets_a_patient_twice():
    """Each patient has a place of their own and a value by chance: with folds by scan the neighbour scan would tell."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(60), 5)
    x = np.eye(60, dtype=np.float32)[owner] * 10 + 0.01 * rng.normal(size=(300, 60)).astype(np.float32)
    values = np.array(["A", "B"])[rng.integers(0, 2, 60)][owner]
    found = room.read_out("vendor", x, values, owner)
    assert found.auc < 0.7


def test_three_values_and_unknown_ones():
    x, values, patients = planted(3.0)
    values = [v if i % 7 else None for i, v in enumerate(values)]
    values[:30] = ["C"] * 30
    x[:30, 1] += 4
    found = room.read_out("vendor", x, values, patients)
    assert found.values == ["A", "B", "C"] and found.auc > 0.85
    assert found.scans == sum(v is not None for v in values)


def test_values_of_few_patients_are_left_out():
    x, values, patients = planted()
    values[:8] = ["rare"] * 8  # four patients
    assert room.read_out("vendor", x, values, patients).values == ["A", "B"]
    assert room.read_out("vendor", x, ["A"] * 200, patients) is None
    assert room.read_out("vendor", x, [None] * 200, patients) is None


def test_of_very_many_scans_whole_patients_are_read(monkeypatch):
    from medssl.experiment.embedding import reading

    monkeypatch.setattr(reading, "MOST", 100)
    found = room.read_out("vendor", *planted())
    assert found.scans == 100 and found.patients == 50


def test_all_facts_are_read_without_the_test_patients():
    x, vendor, patients = planted()
    label = ["sick" if v > 0 else "well" for v in x[:, 2]]
    part = ["test" if int(p[1:]) < 40 else "pool" for p in patients]
    table = pd.DataFrame({LABEL + "lesion": label, PART: part, "vendor": vendor, PATIENT: patients})
    found = room.read_all(x, table)
    assert [r.fact for r in found] == [LABEL + "lesion", "vendor"]
    assert {r.patients for r in found} == {60}
    assert all(r.auc > 0.8 for r in found)


def test_tied_facts_are_measured_without_bias():
    a = ["x", "y"] * 50
    assert room.tied(a, a) == pytest.approx(1)
    assert room.tied(a, ["u"] * 50 + ["v"] * 50) == 0
    assert room.tied(a, ["u"] * 100) == 0
    assert 0.3 < room.tied(a, ["x", "y", "x", "x"] * 25) < 0.8


def test_scans_of_one_patient_are_found_beside_each_other():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 2)
    near = rng.normal(size=(30, 8))[owner] + 0.01 * rng.normal(size=(60, 8))
    hits, chance = room.same_patient(near, owner)
    assert hits == 1 and chance == pytest.approx(1 / 59)
    assert np.isnan(room.same_patient(near[:30:2], owner[:30:2])[0])


def reading(fact, auc, half=0.04):
    return room.Reading(fact, auc, auc - half, auc + half, ["a", "b"], 200, 100)


def test_the_body_part_is_no_sign_of_the_scanner():
    kinds = [room.kind_of(reading(fact, 0.9)) for fact in (LABEL + "vendor", "body part", "vendor", "pixel spacing")]
    assert kinds == ["label", "anatomy", "scanner", "scanner"]


def test_verdicts():
    label = reading(LABEL + "lesion", 0.8)
    kind, sentence = room.verdict(label, [reading("vendor", 0.95), reading("pixel spacing", 0.7)])
    assert kind == "hurts" and "the scanner better than the finding" in sentence
    assert "vendor with an AUC of 0.95 [0.91, 0.99]" in sentence and "lesion with 0.80" in sentence
    assert "go together" not in sentence and "0.5 is chance" in sentence
    kind, sentence = room.verdict(label, [reading("vendor", 0.7)], together=0.5)
    assert kind == "no-evidence" and "finding better than the scanner" in sentence
    assert "Cramér's V 0.50" in sentence
    for auc, expected in ((0.85, "hurts"), (0.75, "no-evidence")):  # intervals that meet
        kind, sentence = room.verdict(label, [reading("vendor", auc)])
        assert kind == expected and "cannot be told" in sentence and "better than" not in sentence
    kind, sentence = room.verdict(label, [reading("vendor", 0.53)])
    assert kind == "helps" and "No sign" in sentence
    assert room.verdict(None, [reading("vendor", 0.9)])[0] == "hurts"
    kind, sentence = room.verdict(label, [])
    assert kind == "no-evidence" and "Nothing can be said" in sentence and "lesion with an AUC of 0.80" in sentence
    said = room.verdict(label, [reading("vendor", 0.9)], learned=False)[1]  # random weights have learned nothing
    assert "These features tell the scanner better than the finding" in said and "learned" not in said
