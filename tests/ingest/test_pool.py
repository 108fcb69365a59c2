"""Work in processes: nothing is lost, whatever an item does to its process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence

import pytest
from deeds import obey

from medssl.errors import MedsslError, UserError
from medssl.ingest import pool
from medssl.ingest.pool import map_chunks


def stumble(chunk: Sequence[int]) -> int:
    warnings.warn("Invalid value 'Jane'", stacklevel=1)
    logging.getLogger("pydicom").error("Jane")
    return sum(chunk)


def give_up(item: object, code: str) -> list[tuple[object, str]]:
    return [(item, code)]


def no_loss(item: object, code: str):
    pytest.fail(f"{item} was lost: {code}")


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_all_chunks_come_back_and_libraries_are_silent(jobs, recwarn, caplog, capfd) -> None:
    assert sum(map_chunks(stumble, list(range(100)), 7, jobs, no_loss)) == 4950
    assert not [w for w in recwarn if "Jane" in str(w.message)]
    assert "Jane" not in caplog.text + str(capfd.readouterr())
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize(
    ("bad", "code"), [("segfault", "crashed"), ("abort", "crashed"), ("eat", "crashed"), ("hang", "timed_out")]
)
@pytest.mark.parametrize("size", [1, 5])
def test_what_kills_its_process_costs_itself_alone(bad, code, size, monkeypatch, capfd) -> None:
    if bad == "hang":
        monkeypatch.setattr(pool, "LIMIT_S", 2.5)
    items = [*range(6), bad, *range(6, 12)]
    found = dict(pair for pairs in map_chunks(obey, items, size, 2, give_up) for pair in pairs)
    assert found.pop(bad) == code
    assert found == dict.fromkeys(range(12), "done")
    assert capfd.readouterr() == ("", "")


def test_a_single_bad_item_is_survived_too() -> None:
    assert list(map_chunks(obey, ["segfault"], 5, 1, give_up)) == [[("segfault", "crashed")]]


def test_an_error_of_the_run_is_raised_here_and_leaves_no_process_at_work() -> None:
    with pytest.raises(UserError, match="no"):
        list(map_chunks(obey, ["hang", "refuse"], 1, 2, give_up))
    assert all(worker.chunk == () for worker in pool._idle)


def test_a_python_that_cannot_work_is_no_fault_of_the_items(monkeypatch) -> None:
    pool.close()
    monkeypatch.setattr(pool, "_CODE", "import a_module_that_is_not_there")
    with pytest.raises(MedsslError, match="cannot be started"):
        list(map_chunks(obey, [1], 1, 1, give_up))


def test_processes_are_kept_and_replaced_where_they_died() -> None:
    first = set(map_chunks(who, [1], 1, 1, no_loss))
    assert set(map_chunks(who, [1], 1, 1, no_loss)) == first
    os.kill(next(iter(first)), signal.SIGKILL)
    assert set(map_chunks(who, [1], 1, 1, no_loss)) != first


def who(chunk: Sequence[int]) -> int:
    return os.getpid()


def test_workers_import_nothing_heavy() -> None:
    (modules,) = map_chunks(imported, [1], 1, 1, no_loss)
    assert not modules & {"torch", "torchvision", "timm", "monai", "pandas", "sklearn"}


def imported(chunk: Sequence[int]) -> set[str]:
    from medssl.ingest import run  # noqa: F401  what a worker of ingest imports

    return {name.partition(".")[0] for name in sys.modules}
