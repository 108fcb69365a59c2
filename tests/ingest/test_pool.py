"""Work in processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import pytest

from medssl.ingest.pool import map_chunks


def stumble(chunk: Sequence[int]) -> int:
    warnings.warn("Invalid value 'Jane'", stacklevel=1)
    logging.getLogger("pydicom").error("Jane")
    return sum(chunk)


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_chunks_come_back_and_libraries_are_silent(jobs, recwarn, caplog, capfd) -> None:
    assert sum(map_chunks(stumble, list(range(100)), 7, jobs)) == 4950
    assert not [w for w in recwarn if "Jane" in str(w.message)]
    assert "Jane" not in caplog.text + str(capfd.readouterr())
    assert logging.root.manager.disable == logging.NOTSET
