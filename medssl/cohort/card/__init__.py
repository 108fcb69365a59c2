"""The data card of a cohort: a Markdown file for people and a Croissant file for machines.

The Markdown card has the front matter of Hugging Face's dataset cards and the seven headings of Datasheets for Datasets
(Gebru et al. 2021). Figures stand between marks and are made again with every call; everything else is written by
people and kept. The Croissant file (MLCommons, 1.0 with the RAI vocabulary) is made from both.
"""

from __future__ import annotations

from pathlib import Path

from medssl.cohort.card.croissant import croissant
from medssl.cohort.card.figures import blocks, front_matter
from medssl.cohort.card.markdown import new_card, read_card, renew
from medssl.cohort.card.parts import Piece, pieces, rewritten
from medssl.cohort.cohort import Cohort
from medssl.cohort.summary import summarize
from medssl.errors import UserError
from medssl.workspace import write_json, write_text

__all__ = ["Piece", "edit_card", "pieces", "read_page", "write_card"]


def write_card(cohort: Cohort, out: Path | None = None) -> tuple[Path, Path]:
    """Write `NAME.md` and `NAME.croissant.json` into `out` (default: the cohort's folder), or renew what is there.

    Raises:
        UserError: a file of that name that is no card, or whose marks or front matter are damaged.
    """
    folder = cohort.path if out is None else out
    page, metadata = folder / f"{cohort.name}.md", folder / f"{cohort.name}.croissant.json"
    summary = summarize(cohort)
    made, matter = blocks(cohort, summary), front_matter(summary)
    if page.exists():
        text = renew(page.read_text(encoding="utf-8"), made, matter["size_categories"], page.name)
    else:
        text = new_card(cohort.name, made, matter)
    card = read_card(text, page.name)
    write_text(page, text)
    write_json(metadata, croissant(card, summary))
    return page, metadata


def read_page(cohort: Cohort) -> str | None:
    """The Markdown of the cohort's own card; None where it has none yet."""
    page = cohort.path / f"{cohort.name}.md"
    return page.read_text(encoding="utf-8") if page.is_file() else None


def edit_card(cohort: Cohort, seen: str, piece: Piece, text: str) -> str:
    """Put another text into a part of the cohort's own card that people write, and make its Croissant file again.

    Args:
        seen: the card that `piece` was taken from.

    Returns:
        The new card.

    Raises:
        UserError: the card has changed since it was read, or the text cannot stand there; see `rewritten`.
    """
    page, metadata = cohort.path / f"{cohort.name}.md", cohort.path / f"{cohort.name}.croissant.json"
    if read_page(cohort) != seen:
        fix = "Copy your text, reload the page, and write it again."
        raise UserError("somebody else has changed the card meanwhile", page.name, fix)
    new = rewritten(seen, piece, text, page.name)
    card = read_card(new, page.name)
    write_text(page, new)
    write_json(metadata, croissant(card, summarize(cohort)))
    return new
