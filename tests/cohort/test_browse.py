"""Pages of scans: filters, order, and that nothing but a page is read."""

from __future__ import annotations

import pytest
from synthetic import write_cohort

from medssl.cohort import browse, catalog
from medssl.cohort.browse import Filter


@pytest.fixture
def cohort(tmp_path):
    return write_cohort(tmp_path)


def test_pages_follow_each_other_in_the_cohorts_order(cohort) -> None:
    order = list(cohort.scans()["scan"])
    pages = [browse.page(cohort, Filter(), start, 10) for start in (0, 10, 20, 30)]
    assert [row["scan"] for page in pages for row in page] == order and browse.count(cohort) == len(order) == 32
    assert pages[0][0] | {"veiled": False} == cohort.scan(order[0]) | {"veiled": False}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(modality="CT"), 2),
        (Filter(vendor="GE"), 16),
        (Filter(modality="DX", vendor="GE"), 15),
        (Filter(finding="burned_in_pixels"), 1),
        (Filter(target="finding"), 30),
        (Filter(target="finding", value="nodule"), 15),
        (Filter(modality="CT", target="finding"), 0),
        (Filter(vendor="GE' OR '1'='1"), 0),
    ],
)
def test_filters(cohort, wanted, expected) -> None:
    assert browse.count(cohort, wanted) == len(browse.page(cohort, wanted, 0, 100)) == expected


def test_an_unknown_modality_is_found_by_that_word(cohort) -> None:
    with catalog.writing(cohort.path) as db:
        db.execute("UPDATE scans SET modality=NULL WHERE modality='CT'")
    assert browse.count(cohort, Filter(modality="unknown")) == 2


def test_scans_whose_pixels_may_name_a_patient_are_veiled(cohort) -> None:
    (row,) = browse.page(cohort, Filter(finding="burned_in_pixels"))
    assert row["veiled"] and sum(r["veiled"] for r in browse.page(cohort, Filter(), 0, 100)) == 1


def test_rows_of_named_scans_come_in_their_order_and_without_those_that_are_gone(cohort) -> None:
    names = [row["scan"] for row in browse.page(cohort, Filter(), 0, 3)][::-1]
    assert [row["scan"] for row in browse.rows_of(cohort, [names[0], "sgone", *names[1:]])] == names


def test_what_is_said_of_a_scan(cohort) -> None:
    (row,) = browse.page(cohort, Filter(finding="burned_in_pixels"))
    labels, findings = browse.said_of(cohort, row["scan"])
    assert labels["finding"] == "none" and [f["code"] for f in findings] == ["burned_in_pixels"]


def test_a_page_takes_its_order_from_an_index(cohort) -> None:
    """Else 100,000 scans would be sorted for every page."""
    with catalog.reading(cohort.path) as db:
        query = "EXPLAIN QUERY PLAN SELECT scan FROM scans WHERE 1 ORDER BY content_hash, scan LIMIT 24 OFFSET 90000"
        plan = " ".join(str(row[3]) for row in db.execute(query))
    assert "scans_by_content" in plan and "TEMP B-TREE" not in plan
