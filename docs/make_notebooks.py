"""Notebooks from the percent scripts in notebooks/ (`# %%` begins a cell, `# %% [markdown]` one of text).

    python docs/make_notebooks.py           # writes notebooks/NAME.ipynb beside each NAME.py
    python docs/make_notebooks.py --check   # exits 1 where one is out of date

The script is what is edited. Notebooks carry no outputs: the tests run their cells.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
MARK, TEXT = "# %%", "[markdown]"


def main() -> int:
    old = []
    for script in sorted(NOTEBOOKS.glob("*.py")):
        file, text = script.with_suffix(".ipynb"), as_json(script.read_text(encoding="utf-8"))
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            old.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(text, encoding="utf-8")
                print(file)
    if old and "--check" in sys.argv:
        print(f"Out of date: {', '.join(old)}. Run python docs/make_notebooks.py.", file=sys.stderr)
        return 1
    return 0


def as_json(script: str) -> str:
    """The notebook of a script, in the form 4.5 of Jupyter."""
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": python, "language_info": {"name": "python"}}
    notebook = {"cells": list(map(_cell, _cells(script), range(99))), "metadata": about, "nbformat": 4}
    return json.dumps({**notebook, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def _cells(script: str) -> list[tuple[str, str]]:
    """(kind, text) of each cell."""
    cells = []
    for piece in f"\n{script}".split(f"\n{MARK}")[1:]:
        head, _, body = piece.partition("\n")
        kind = "markdown" if head.strip() == TEXT else "code"
        lines = body.strip("\n").splitlines()
        text = [line.removeprefix("#").removeprefix(" ") for line in lines] if kind == "markdown" else lines
        cells.append((kind, "\n".join(text)))
    return cells


def _cell(cell: tuple[str, str], number: int) -> dict[str, Any]:
    kind, text = cell
    made: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number:02d}", "metadata": {}}
    made |= {"execution_count": None, "outputs": []} if kind == "code" else {}
    return made | {"source": text.splitlines(keepends=True)}


if __name__ == "__main__":
    sys.exit(main())
