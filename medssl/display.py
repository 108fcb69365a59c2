"""What a notebook shows of an object: a title, a line of facts, a small table. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

MUTED = "opacity: .7"
CELL = "text-align: {}; padding: 2px 12px 2px 0"


def card(title: str, facts: Sequence[str], heads: Sequence[str] = (), rows: Sequence[Sequence[str]] = ()) -> str:
    """HTML that reads in light and dark notebooks alike.

    Args:
        heads, rows: of a table; the first column is text, the others are numbers.
    """
    lines = "".join(f"<div style='{MUTED}'>{escape(fact)}</div>" for fact in facts if fact)
    return f"<div><strong>{escape(title)}</strong>{lines}{_table(heads, rows) if rows else ''}</div>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(_cell("th", i, text) for i, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(_cell('td', i, text) for i, text in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, column: int, text: str) -> str:
    return f"<{tag} style='{CELL.format('right' if column else 'left')}'>{escape(text)}</{tag}>"
