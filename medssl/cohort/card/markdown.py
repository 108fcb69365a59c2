"""The Markdown card as text: made new, made again around what people wrote, and read back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from medssl.errors import UserError

BEGIN, END = "<!-- medssl:{} (medssl makes this part again; write outside of it) -->", "<!-- /medssl:{} -->"
MARK = re.compile(r"<!-- (/?)medssl:(\w+)[^>]*-->")
FRONT = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)

# the seven headings of Datasheets for Datasets (Gebru et al., CACM 64:12, 2021), with the gist of their questions
CARD = """# {title}

_What is this data set, in two sentences?_

## Motivation

_For what purpose was the data set made, by whom, and who paid for it?_

## Composition

{figures}

_What does a scan stand for? Is it a sample of something larger? What is missing, what is redundant?_

### Personal and sensitive information

Scans, patients, exams and files go by keyed names; no name, id, date or path is stored with them. The pixels
themselves were not searched for text or faces by the card.

## Collection process

_How, where, when (in years) and on which patients were the scans acquired? Was consent given, or waived by whom?_

## Preprocessing, cleaning, labeling

{exclusions}

_What was done to the scans before ingestion?_

### Labels

_Who labeled, with what in view, how often, and how far do readers agree?_

## Uses

_What has the data set been used for, what is it good for, and what should it not be used for?_

### Limitations

_What should a user know before trusting a result on it?_

### Biases

_Who is over- or under-represented (age, sex, site, scanner, severity)?_

## Distribution

_Who may have it, under which terms, and how is it cited?_

## Maintenance

_Who keeps it, and whom does one tell of an error?_

{origin}
"""
QUESTION = re.compile(r"^_[^_]+\?_$", re.MULTILINE)


@dataclass
class Card:
    """A card as read.

    Attributes:
        front: its front matter.
        title: its first heading.
        sections: {heading: text that people wrote below it}, without figures and unanswered questions, paragraphs
            joined to lines; "" is what stands before the first heading.
    """

    front: dict[str, Any]
    title: str
    sections: dict[str, str] = field(default_factory=dict)


def new_card(title: str, blocks: dict[str, str], front: dict[str, Any]) -> str:
    """A card with figures, and questions where people are to write."""
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    body = CARD.format(title=title, **{name: _marked(name, text) for name, text in blocks.items()})
    return f"---\n{head}---\n\n{body}"


def renew(text: str, blocks: dict[str, str], sizes: list[str], where: str) -> str:
    """The same card with new figures between its marks and a new `size_categories`; all other text as it is.

    A part whose two marks are both gone stays away.

    Raises:
        UserError: a text without any mark, a mark without its partner or there twice, or damaged front matter.
    """
    spans = _marks(text, blocks, where)
    for name, (start, stop) in sorted(spans.items(), key=lambda item: -item[1][0]):
        text = text[:start] + "\n" + blocks[name] + "\n" + text[stop:]
    return _with_sizes(text, sizes, where)


def read_card(text: str, where: str) -> Card:
    """Raises UserError where the front matter is no YAML."""
    front, body = _front(text, where), FRONT.sub("", text)
    body = re.sub(r"<!-- medssl:(\w+)[^>]*-->.*?<!-- /medssl:\1 -->", "", body, flags=re.DOTALL)
    body = QUESTION.sub("", re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL))
    title, sections, heading = "", {"": ""}, ""
    for line in body.splitlines():
        if match := re.match(r"(#{1,4}) +(.+?) *$", line):
            if match[1] == "#" and not title:
                title = match[2]
                continue
            heading = match[2]
            sections.setdefault(heading, "")
        else:
            sections[heading] += line + "\n"
    return Card(front, title, {name: _joined(part) for name, part in sections.items() if part.strip()})


def _marked(name: str, text: str) -> str:
    return f"{BEGIN.format(name)}\n{text}\n{END.format(name)}"


def _marks(text: str, blocks: dict[str, str], where: str) -> dict[str, tuple[int, int]]:
    """{name: (end of its first mark, start of its second)}."""
    found = [m for m in MARK.finditer(text) if m[2] in blocks]
    if not found:
        fix = "Name another folder with --out, or move the file away."
        raise UserError("the file is not a card that medssl made, so it is not touched", where, fix)
    spans = {}
    for name in dict.fromkeys(m[2] for m in found):
        marks = [m for m in found if m[2] == name]
        inside = [m for m in found if m[2] != name and marks[0].end() <= m.start() < marks[-1].start()]
        if [m[1] for m in marks] != ["", "/"] or inside:
            raise UserError(
                f"the marks of the part '{name}' are damaged", where,
                f"It needs <!-- medssl:{name} --> and, below, {END.format(name)}, once each; or neither.",
            )  # fmt: skip
        spans[name] = (marks[0].end(), marks[1].start())
    return spans


def _front(text: str, where: str) -> dict[str, Any]:
    match = FRONT.match(text)
    try:
        front = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        front = None
    if not isinstance(front, dict):
        fix = "It starts with ---, lines of `key: value`, and another ---."
        raise UserError("the card's front matter cannot be read", where, fix)
    return front


def _with_sizes(text: str, sizes: list[str], where: str) -> str:
    """Replace the lines of `size_categories` alone: YAML written anew would lose comments."""
    if _front(text, where).get("size_categories") == sizes:
        return text
    end = FRONT.match(text).end(1)  # type: ignore[union-attr]  # _front has seen it
    head = re.sub(r"^size_categories:.*\n(?:[ \t]*-.*\n|[ \t]+.*\n)*", "", text[4:end], flags=re.MULTILINE)
    lines = "".join(f"  - {json.dumps(size) if ':' in size else size}\n" for size in sizes)
    return f"---\n{head}size_categories:\n{lines}{text[end:]}"


def _joined(text: str) -> str:
    """Paragraphs as lines of their own; lists and tables keep their lines."""
    paragraphs = [p for p in re.split(r"\n\s*\n", text.strip()) if p.strip()]
    keep = re.compile(r"^\s*(?:[-*|]|\d+\.)", re.MULTILINE)
    return "\n".join(p if keep.search(p) else " ".join(p.split()) for p in paragraphs)
