import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.statistics import read_evidence


def test_arrays_follow_the_rows(evidence_rows):
    rows = evidence_rows({"a": 1.0, "b": 0.0})
    evidence = read_evidence(rows)
    assert evidence.classes == ["no", "yes"] and set(evidence.scores) == {(a, b) for a in "ab" for b in (5, "all")}
    some = rows[(rows.arm == "b") & (rows.budget == "5") & (rows.draw == 3) & (rows.unit == "u017")].set_index("cls")
    place = evidence.units.tolist().index("u017")
    assert evidence.scores["b", 5][3, place].tolist() == [some.score["no"], some.score["yes"]]
    assert evidence.truth[place] == int(some.truth["yes"])
    assert evidence.patients[place] == evidence.patients[evidence.units.tolist().index("u016")]
    assert len(np.unique(evidence.patients)) == 60


def test_other_test_units_are_refused(evidence_rows):
    rows = evidence_rows({"a": 1.0, "b": 0.0})
    with pytest.raises(MedsslError, match="same test units"):
        read_evidence(rows[~((rows.arm == "b") & (rows.unit == "u003"))])
