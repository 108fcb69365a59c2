"""A card in pieces: what people write can be changed, what medssl makes cannot."""

from __future__ import annotations

import itertools

import pytest
from synthetic import write_cohort

from medssl.cohort.card import edit_card, pieces, read_page, write_card
from medssl.errors import UserError


@pytest.fixture
def cohort(tmp_path):
    made = write_cohort(tmp_path, images=2)
    write_card(made)
    return made


def piece(text: str, heading: str, written: bool = True):
    return next(p for p in pieces(text) if p.heading == heading and p.written == written)


def test_pieces_are_the_whole_card_and_tell_who_writes_what(cohort) -> None:
    text = read_page(cohort)
    found = pieces(text)
    assert {p.heading for p in found if not p.written} == {
        "Composition", "Preprocessing, cleaning, labeling", "Maintenance",
    }  # fmt: skip
    assert all(p.heading for p in found), "nothing stands between the front matter and the title"
    assert all(text[p.start : p.stop].strip() == p.text for p in found)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
    assert piece(text, "Motivation").text.endswith("paid for it?_") and "license" in piece(text, "Front matter").text


def test_an_answer_is_written_and_everything_else_stays(cohort) -> None:
    seen = read_page(cohort)
    new = edit_card(cohort, seen, piece(seen, "Motivation"), "To find nodules.\r\n\r\nPaid by nobody.")
    assert read_page(cohort) == new and piece(new, "Motivation").text == "To find nodules.\n\nPaid by nobody."
    question = piece(seen, "Motivation").text
    assert new == seen.replace(question, "To find nodules.\n\nPaid by nobody.")
    write_card(cohort)
    assert "Paid by nobody." in read_page(cohort), "renewed figures leave it alone"


def test_an_answer_can_be_emptied_and_written_again(cohort) -> None:
    seen = read_page(cohort)
    empty = edit_card(cohort, seen, piece(seen, "Uses"), "")
    again = edit_card(cohort, empty, piece(empty, "Uses"), "Teaching.")
    assert piece(empty, "Uses").text == "" and piece(again, "Uses").text == "Teaching."


def test_front_matter_is_yaml_and_reaches_the_croissant_file(cohort) -> None:
    seen = read_page(cohort)
    front = piece(seen, "Front matter")
    edit_card(cohort, seen, front, front.text.replace("license: unknown", "license: cc-by-4.0"))
    assert "CC-BY-4.0" in (cohort.path / "virtual.croissant.json").read_text()
    with pytest.raises(UserError, match="front matter"):
        edit_card(cohort, read_page(cohort), piece(read_page(cohort), "Front matter"), "a: [")


@pytest.mark.parametrize("text", ["<!-- medssl:figures -->", "x <!-- /medssl:origin --> y"])
def test_marks_cannot_be_written(cohort, text) -> None:
    seen = read_page(cohort)
    with pytest.raises(UserError, match="own marks"):
        edit_card(cohort, seen, piece(seen, "Motivation"), text)
    with pytest.raises(UserError, match="medssl makes this part"):
        edit_card(cohort, seen, piece(seen, "Composition", written=False), "none")
    assert read_page(cohort) == seen


def test_two_people_do_not_overwrite_each_other(cohort) -> None:
    seen = read_page(cohort)
    edit_card(cohort, seen, piece(seen, "Motivation"), "First.")
    with pytest.raises(UserError, match="changed the card meanwhile"):
        edit_card(cohort, seen, piece(seen, "Motivation"), "Second.")
    assert piece(read_page(cohort), "Motivation").text == "First."
