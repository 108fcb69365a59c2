"""A card taken apart into what people write and what medssl makes, so that each answer can be edited by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medssl.cohort.card.markdown import FRONT, MARK, read_card
from medssl.errors import UserError

FRONT_MATTER = "Front matter"
MADE = re.compile(r"<!-- medssl:(\w+)[^>]*-->\n?(.*?)<!-- /medssl:\1 -->", re.DOTALL)
HEADING = re.compile(r"^(#{1,4}) +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """A stretch of a card.

    Attributes:
        heading: that it stands under; "" before the first, `Front matter` for the YAML above all.
        level: of the heading, 1 to 4.
        text: Markdown, or YAML.
        written: whether people write it; else medssl makes it.
        start, stop: where it lies in the card's text.
    """

    heading: str
    level: int
    text: str
    written: bool
    start: int
    stop: int


def pieces(card: str) -> list[Piece]:
    """All of a card in its order, headings apart. Under each heading at least one piece is written by people."""
    front = FRONT.match(card)
    found = [Piece(FRONT_MATTER, 1, front[1].rstrip("\n"), True, *front.span(1))] if front else []
    marks: list[re.Match[str]] = sorted([*MADE.finditer(card), *_headings(card)], key=lambda m: m.start())
    heading, level, place = "", 1, front.end() if front else 0
    section: list[Piece] = []
    for mark in [*marks, None]:
        stop = mark.start() if mark else len(card)
        section.append(Piece(heading, level, card[place:stop].strip(), True, place, stop))
        if mark and mark.re is MADE:
            section.append(Piece(heading, level, mark[2].strip(), False, *mark.span(2)))
        else:
            found += _told(section)
            section = []
        if mark:
            place = mark.end()
            if mark.re is HEADING:
                heading, level = mark[2], len(mark[1])
    return found


def rewritten(card: str, piece: Piece, text: str, where: str) -> str:
    """The card with another text in this piece.

    Raises:
        UserError: a piece that medssl makes, a text with medssl's own marks in it, or front matter that is no YAML.
    """
    if not piece.written:
        raise UserError("medssl makes this part of the card", where, "Write above or below it.")
    if MARK.search(text):
        raise UserError("a text may not hold medssl's own marks", where, "Take `<!-- medssl:... -->` out of it.")
    text = text.replace("\r\n", "\n").strip()
    own = f"{text}\n" if piece.heading == FRONT_MATTER else f"\n\n{text}\n\n" if text else "\n\n"
    new = card[: piece.start] + own + card[piece.stop :].lstrip("\n" if piece.heading != FRONT_MATTER else "")
    read_card(new, where)
    return new.rstrip("\n") + "\n"


def _headings(card: str) -> list[re.Match[str]]:
    """Those that people see: none in the front matter, none in what medssl makes."""
    front = FRONT.match(card)
    hidden = [m.span() for m in MADE.finditer(card)] + ([front.span()] if front else [])
    return [m for m in HEADING.finditer(card) if not any(a <= m.start() < b for a, b in hidden)]


def _told(section: list[Piece]) -> list[Piece]:
    """Without empty stretches, save one where nothing is written under a heading."""
    kept = [p for p in section if p.text]
    if section[-1].heading and not any(p.written for p in kept):
        kept.append(section[-1])
    return sorted(kept, key=lambda p: p.start)
