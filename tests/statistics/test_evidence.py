import numpy as np
import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.statistics import read_evidence


def test_arrays_follow_the_rows(evidence_rows):
    rows = evidence_rows({"a": 1.0, "b": 0.0})
    evidence = read_evidence(rows)
    assert evidence.classes == ["no", "yes"] and set(evidence.scores) == {(a, b) for a in "ab" for b in (5, "all")}
    some = rows[(rows.arm == "b") & (rows.budget == "5") & (rows.draw == 3) & (rows.unit == "u017")].set_index("cls")
    place = evidence.units.tolist().index("u017")
    assert evidence.scores["b", 5][0, 3, place].tolist() == [some.score["no"], some.score["yes"]]
    assert evidence.truth[place] == int(some.truth["yes"])
    assert evidence.patients[place] == evidence.patients[evidence.units.tolist().index("u016")]
    assert len(np.unique(evidence.patients)) == 60


def test_other_test_units_are_refused(evidence_rows):
    rows = evidence_rows({"a": 1.0, "b": 0.0})
    with pytest.raises(MedsslError, match="same test units"):
        read_evidence(rows[~((rows.arm == "b") & (rows.unit == "u003"))])


def test_a_draw_counts_where_every_run_has_it(evidence_rows):
    rows = evidence_rows({"a": 1.0}, ("5",))
    both = pd.concat([rows.assign(run=0), rows[rows["draw"] != 2].assign(run=1, job=lambda t: t["job"] + "x")])
    evidence = read_evidence(both)
    assert evidence.draws["a", 5].tolist() == [0, 1, 3, 4, 5] and evidence.scores["a", 5].shape[:2] == (2, 5)


def test_a_part_of_the_units(evidence_rows):
    evidence = read_evidence(evidence_rows({"a": 1.0}))
    keep = evidence.patients % 2 == 0
    part = evidence.part(keep)
    assert len(part.units) == 60 and part.patients.max() == 29
    assert (part.scores["a", 5] == evidence.scores["a", 5][:, :, keep]).all()
    assert (part.truth == evidence.truth[keep]).all()
