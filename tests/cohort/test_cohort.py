"""The face of a cohort: opening, tables, labels, hash."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from test_samples import add

from medssl.cohort import Cohort, catalog
from medssl.errors import UserError


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    made = Cohort.create(tmp_path / "cohort")
    for i in range(4):
        picture = np.random.default_rng(i).integers(0, 255, (8, 8)).astype(np.uint8)
        scan = add(made, picture, patient=f"p{i // 2}", exam=f"e{i}")
        with catalog.writing(made.path) as db:
            catalog.put_labels(db, [(scan, "kind", "ab"[i // 2]), *([(scan, "side", "left")] if i else [])])
    return Cohort.open(made.path)


def test_a_folder_that_is_no_cohort(tmp_path) -> None:
    with pytest.raises(UserError, match="not a cohort"):
        Cohort.open(tmp_path)
    (tmp_path / "catalog.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(UserError, match="cannot be read"):
        Cohort.open(tmp_path)


def test_a_catalog_of_another_version(cohort) -> None:
    with catalog.writing(cohort.path) as db:
        db.execute("UPDATE meta SET value='0' WHERE key='schema'")
    with pytest.raises(UserError, match="another version"):
        Cohort.open(cohort.path)


def test_tables(cohort) -> None:
    scans = cohort.scans()
    assert len(scans) == len(cohort) == 4 and "grp" not in scans and scans["shape"][0] == [8, 8]
    assert list(scans["group"]) == list(scans["patient"]), "without groups, each patient is one"
    assert list(scans["content_hash"]) == sorted(scans["content_hash"])
    assert cohort.mask(scans["scan"][0]) is None and cohort.padding(scans["scan"][0]) is None
    with pytest.raises(UserError, match="no scan"):
        cohort.array("snothing")


def test_labels_and_units(cohort) -> None:
    assert cohort.targets() == ["kind", "side"] and len(cohort.labels("side")) == 3
    assert list(cohort.units("kind", "image").columns) == ["unit", "patient", "group", "label"]
    assert sorted(cohort.units("kind", "patient")["unit"]) == ["p0", "p1"]
    assert len(cohort.units("side", "exam")) == 3
    with pytest.raises(UserError, match="Did you mean 'kind'"):
        cohort.labels("knd")
    with pytest.raises(UserError, match="unknown unit"):
        cohort.units("kind", "slice")  # type: ignore[arg-type]


def test_filtered_counts_come_from_an_index_alone(cohort) -> None:
    with catalog.writing(cohort.path) as db:
        db.execute("UPDATE scans SET modality='CT', vendor='Siemens' WHERE patient='p1'")
    counts = [
        cohort.count(),
        cohort.count(modality="CT"),
        cohort.count(vendor="GE", modality="MR"),
        cohort.count(kind="x"),
    ]
    assert counts == [4, 2, 2, 0]
    with pytest.raises(UserError, match="Did you mean 'vendor'"):
        cohort.count(vendr="GE")
    with catalog.reading(cohort.path) as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT count(*) FROM scans WHERE vendor='GE' AND unit='HU'").fetchall()
    assert "COVERING INDEX scans_by_kind" in plan[0][3], "a million rows would be read whole otherwise"


def test_the_hash_knows_patients_and_pixels_but_no_labels_and_no_names(cohort, tmp_path) -> None:
    first = cohort.hash

    def after(*statement) -> str:
        with catalog.writing(cohort.path) as db:
            db.execute(*statement)
        return Cohort.open(cohort.path).hash

    assert after("DELETE FROM labels") == first
    assert after("UPDATE scans SET patient='x' || patient, exam='y' || exam") == first, "other keys, same partition"
    assert after("UPDATE scans SET patient='one'") != first


def test_many_processes_read_at_once(cohort) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert set(pool.map(_hash, [cohort.path] * 4)) == {cohort.hash}


def _hash(path: Path) -> str:
    return Cohort.open(path).hash


def test_a_folder_without_write_permission(cohort) -> None:
    """Cohorts on a shared read-only disk must open."""
    for path in [*cohort.path.rglob("*"), cohort.path]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(Cohort.open(cohort.path)) == 4
    finally:
        for path in [cohort.path, *cohort.path.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
