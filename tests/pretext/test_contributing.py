"""Adding a task is one file and one test: those that CONTRIBUTING shows, dropped into a folder of medssl.pretext."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = """
import sys
import medssl.pretext
medssl.pretext.__path__.append(sys.argv[1])
"""
USE = """
import json
import numpy, pandas, torch
sys.path.append(sys.argv[2])
from pretext_page import section
from pretext_sets import encoder_of, sets_of
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.pretext import task_class
from medssl.training import fit
kind = task_class("inverted")
from types import SimpleNamespace
names = [f"s{i}" for i in range(16)]
table = pandas.DataFrame({"scan": names, "exam": names, "patient": names, "position_mm": numpy.nan})
images = numpy.random.default_rng(0).integers(0, 100, (16, 1, 32, 32), dtype=numpy.uint8)
samples = SimpleNamespace(images=images, table=table, view=View(size=32), key="toy")
run = fit(samples, "inverted", out=sys.argv[1] + "/run", encoder="small", steps=2, batch=8, settings={"share": 0.3})
print(json.dumps({"steps": run.steps, "floor": run.floor["accuracy"], "sets": sets_of("inverted"),
                  "encoder": encoder_of(kind), "section": section(kind)}))
"""


def blocks() -> list[str]:
    page = ROOT / "CONTRIBUTING.md"
    if not page.is_file():
        pytest.skip("CONTRIBUTING.md is not beside the tests here")
    found = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(found) == 2, "the page shows a task and its test"
    return found


def python(code: str, *arguments: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    task, test = blocks()
    (tmp_path / "inverted.py").write_text(task)
    (tmp_path / "test_inverted.py").write_text(test)
    return tmp_path


def test_the_test_that_contributing_shows_passes(folder):
    python(HERE + "import pytest; sys.exit(pytest.main(['-q', sys.argv[1] + '/test_inverted.py']))", folder)


def test_every_place_finds_a_task_that_was_dropped_in(folder):
    code = HERE + "from medssl.cli import app; app(['tasks', '--json'], standalone_mode=False)"
    rows = {row["name"]: row for row in json.loads(python(code, folder))}
    assert rows["inverted"] == {
        "name": "inverted",
        "paper": "nobody yet",
        "sampling": "image",
        "dims": [2],
        "channels": [*range(1, 9)],
        "line": "tell an inverted image from its original",
    }
    found = json.loads(python(HERE + USE, folder, ROOT / "benchmarks"))
    assert found["steps"] == 2 and found["floor"] == 0.7
    assert found["sets"] == ["kermany_cxr", "busi"] and found["encoder"] == "small"
    assert "closes no shortcut" in found["section"]
