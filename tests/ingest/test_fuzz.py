"""Damaged files of every format, a few hundred of the ten thousand of benchmarks/ingest_fuzz.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import ingest_fuzz

from medssl.workspace import data_folder


@pytest.fixture(scope="module")
def files():
    return ingest_fuzz.originals(data_folder())  # pydicom's and made ones alone where there are no real scans


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", [10_000, 10_100, 10_200])
def test_damaged_files_are_accounted_for(files, first) -> None:
    found = ingest_fuzz.batch(files, seed=0, first=first, last=first + 99)
    assert not found["error"]
    value = ingest_fuzz.summary([found])
    assert {name: v for name, v in value.items() if v > ingest_fuzz.BOUNDS[name]} == {}
    assert found["found"] >= 101 and found["accepted"] > 1 and found["rejected"] > 1


def test_cases_are_the_same_for_the_same_seed(files) -> None:
    assert ingest_fuzz.mutant(files, 0, 7) == ingest_fuzz.mutant(files, 0, 7) != ingest_fuzz.mutant(files, 1, 7)


def test_what_goes_wrong_is_seen() -> None:
    fine = {"codes": {"accepted ": 1}, "seconds": 1.0, "mib": 100, "told": 0, "error": ""}
    fine |= {"found": 3, "accepted": 1, "rejected": 1, "ignored": 1}
    assert ingest_fuzz.is_sound(fine)
    for fault in ({"found": 4}, {"error": "exit -11"}, {"told": 1}, {"codes": {"rejected timed_out": 1}},
                  {"seconds": 99.0}, {"mib": 1e5}):  # fmt: skip
        assert not ingest_fuzz.is_sound(fine | fault)
