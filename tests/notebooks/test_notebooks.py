"""The notebooks are those of their scripts, and their cells run, in order, in a fresh Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Runs the cells as a notebook does: what the last line of a cell gives is shown as HTML, as a picture, or as text.
KERNEL = """
import ast, json, sys

names = {}
shown = []
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] != "code":
        continue
    body = ast.parse("".join(cell["source"])).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if last is None:
        continue
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if hasattr(value, "_repr_mimebundle_"):
        shown.append(str(value._repr_mimebundle_()))
    else:
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
json.dump(shown, open(sys.argv[2], "w"))
"""


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_it_is_the_notebook_of_its_script(file):
    sys.path.insert(0, str(ROOT / "docs"))
    from make_notebooks import as_json

    assert file.read_text(encoding="utf-8") == as_json(file.with_suffix(".py").read_text(encoding="utf-8"))
    made = json.loads(file.read_text(encoding="utf-8"))
    assert made["nbformat"] == 4 and len({cell["id"] for cell in made["cells"]}) == len(made["cells"])


def test_every_script_has_its_notebook():
    assert [f.stem for f in NOTEBOOKS] == [f.stem for f in sorted((ROOT / "notebooks").glob("*.py"))] != []


@pytest.mark.slow
def test_the_first_curve_runs_from_nothing(tmp_path):
    file = ROOT / "notebooks" / "01_first_curve.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, str(file), str(tmp_path / "shown.json")],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cohort, scans, results, curve, compared, frame, encoder, shape = json.loads((tmp_path / "shown.json").read_text())
    assert "80 scans of 80 patients" in cohort and "Virtual patients" in results and "no evidence" in results
    assert (
        "<svg" in curve
        and "cdn" not in curve
        and "simclr against scratch" in compared
        and "score" in frame
        and "vendor" in scans
    )
    assert "Encoder small" in encoder and shape == "(8, 256)"
    assert (tmp_path / "medssl_workspace" / "experiments" / "demo_quick").is_dir()
