"""The table of pretext tasks: rows are reused only for what was asked, and the page says what they say."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import pretext_table  # noqa: E402
from pretext_code import training_code  # noqa: E402
from pretext_page import opened, page, sentences, table  # noqa: E402
from pretext_sets import SETS, sets_of  # noqa: E402

from medssl.pretext import tasks  # noqa: E402
from medssl.workspace import write_json  # noqa: E402


def finished(task: str, frozen: float, low: float, pixels: float = 0.7, place: str = "busi", code: str = "a") -> dict:
    score = {"frozen": [frozen, frozen - 0.05, frozen + 0.05], "finetuned": [0.6, None, None]}
    score |= {"random": [0.6, 0.55, 0.65], "scratch": [0.58, 0.5, 0.66], "pixels": [pixels, 0.6, 0.8]}
    minus = {"random": [frozen - 0.6, low, 0.2], "pixels": [frozen - pixels, -0.1, 0.2], "scratch": [0.02, None, None]}
    return {
        "what": {"task": task, "set": place, "encoder": "small", "labels": 10, "draws": 10, "minutes": 2},
        "scores": score,
        "minus": minus,
        "pretext": {"measure": "accuracy", "value": 0.91, "floor": 0.25},
        "images_per_second": 1234,
        "code": code,
    }


def test_the_table_is_sorted_and_marks_what_beats_random_features():
    rows = [finished("inpainting", 0.64, -0.01), finished("rotation", 0.75, 0.08)]
    text = table(rows)
    assert text.index("`rotation`") < text.index("`inpainting`")
    assert "**+.150 [+.080, +.200]**" in text and "**+.040" not in text
    assert "accuracy .91 (floor .25) | 1,234 |" in text and "kermany" not in text
    said = sentences(sorted(rows, key=lambda row: -row["scores"]["frozen"][0]), set())
    assert said[0].endswith("excluding 0: `rotation`; not: `inpainting`.")
    assert said[1] == "Above raw pixels by point estimate: `rotation`."
    assert said[2].endswith("excluding 0: none.") and len(said) == 3


def test_tasks_that_were_tuned_on_the_set_and_mixed_versions_are_said():
    rows = [
        finished("rotation", 0.75, 0.08, place="kermany_cxr"),
        finished("dino", 0.7, 0.01, place="kermany_cxr", code="b"),
    ]
    text = table(rows, {"trials_kermany_cxr_dino": [], "trials_busi_mae": []})
    assert "so that their rows here confirm nothing: `rotation`, `dino`.\n" in text and "2 versions" in text


def test_the_page_keeps_what_people_wrote_and_describes_every_task():
    kept = (ROOT / "docs" / "pretext_tasks.md").read_text()
    missing = [name for name in tasks() if f"\n### {name}\n" not in kept]
    assert not missing, "write it anew with: python benchmarks/pretext_page.py"
    trial = {"settings": {"gap": 99.0}, "score": [0.7, 0.6, 0.8], "minus_random": [0.05, -0.01, 0.1]}
    arguments = [finished("rotation", 0.75, 0.08)], {"trials_kermany_cxr_slice_sorting": [trial]}
    shown = page(kept, *arguments)
    assert '| `slice_sorting` | kermany_cxr | `{"gap": 99.0}` | .700 (.600-.800) | +.050 [-.010, +.100] |' in shown
    assert shown.startswith("# Pretext tasks") and "How to read it." in shown and "### busi" in shown
    assert all(f"\n### {name}\n" in shown and task.paper in shown for name, task in tasks().items())
    assert page(shown, *arguments) == shown
    for broken in ("no marks", kept + "<!-- /table -->"):
        with pytest.raises(ValueError, match="must have one part 'ta"):
            page(broken, [], {})


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_no_page_says_a_thing_twice(page):
    """A careless edit once left two copies of a whole part, which did not agree."""
    headings = re.findall(r"^## .*", page.read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))


def test_opened_shortcuts_are_listed_with_what_features_gained():
    line = {"shortcut": "gray levels", "task": "jigsaw", "set": "busi", "changes": {"normalise": False}}
    line |= {"figure": "accuracy", "pretext": {"shut": 0.41, "open": 0.9}, "open_minus_shut": [-0.01, -0.04, 0.02]}
    row = (
        '| gray levels | `jigsaw` | busi | `{"normalise": false}` | accuracy .41 | accuracy .9 | -.010 [-.040, +.020] |'
    )
    kept = (ROOT / "docs" / "pretext_tasks.md").read_text()
    assert row in opened([line]) and row in page(kept, [], {}, [line])


def test_rows_from_imagenet_and_of_small_batches_have_tables_of_their_own():
    plain, other = finished("simclr", 0.75, 0.08), finished("simclr", 0.77, -0.01)
    other["what"] |= {"imagenet": True, "encoder": "tf_efficientnet_lite0"}
    plain["scores"]["imagenet"], plain["minus"]["imagenet"] = [0.7, 0.6, 0.8], [0.05, -0.01, 0.1]
    small = finished("simclr", 0.65, -0.02)
    small["what"] |= {"batch": 16, "pool": 400}
    text = table([plain, other, small])
    first, second, third = (
        text.index("### busi\n"),
        text.index("### busi, from ImageNet"),
        text.index("### Small cohort"),
    )
    assert first < second < third
    assert (
        "ImageNet, frozen, 64 px | .700" in text[first:second]
        and "at the same input size by point estimate: `simclr`" in text
    )
    assert "minus ImageNet features" in text[second:third] and "random or from scratch" not in text[second:third]
    assert "| task | 400 scans, batch 16 | all scans, batch 128 |" in text
    assert ".650, +.050 [-.020, +.200]" in text[third:] and ".750, **+.150 [+.080, +.200]**" in text[third:]


def test_variants_have_files_of_their_own(tmp_path):
    kinds = [pretext_table.Variant(), pretext_table.Variant(batch=16, pool=400), pretext_table.Variant(imagenet=True)]
    rows = [pretext_table.Row("simclr", "busi", 2.0, pretext_table.FULL, tmp_path, kind) for kind in kinds]
    assert [row.file.stem for row in rows] == [
        "pretext_busi_simclr",
        "pretext_busi_simclr_batch16_pool400",
        "pretext_busi_simclr_imagenet",
    ]
    assert rows[2].encoder == pretext_table.IMAGENET and rows[2].random == "imagenet"


def test_a_row_is_reused_for_the_same_question_alone(tmp_path, monkeypatch):
    ask = lambda minutes=2.0, how=pretext_table.FULL: pretext_table.Row("rotation", "busi", minutes, how, tmp_path)  # noqa: E731
    row = ask()
    assert not row.finished
    write_json(row.file, {"what": row.what, "status": "running", "steps": 7})
    assert not ask().finished and ask().stored["steps"] == 7, "an interrupted row keeps its steps"
    write_json(
        row.file, {"what": row.what, "status": "finished", **finished("rotation", 0.7, 0.1)} | {"what": row.what}
    )
    assert ask().finished
    assert not ask(minutes=1.0).finished and not ask(how=pretext_table.QUICK).finished
    monkeypatch.setattr(pretext_table, "task_code", lambda task: "another task file")
    assert not ask().finished


def test_every_task_has_a_set():
    assert all(sets_of(name) and set(sets_of(name)) <= set(SETS) for name in tasks())
    assert sets_of("rotation") == ["kermany_cxr", "busi"]


TASK = """
import torch
STEP = 3
class Some(PretextTask):
    'What it is.'
    line = 'words'
    def loss(self, batch, generator):
        return self.puzzle(batch) * STEP
    def puzzle(self, batch):
        painted = batch.images
        return painted
    def painted(self, batch):
        return 1
    def show(self, batch, generator):
        return self.painted(batch)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("'words'", "'other words'", True),
        ("return 1", "return 2", True),  # reached by `show` alone, though a variable has its name
        ("What it is.", "What it was.", True),
        ("import torch", "import torch  # and a comment", True),
        ("STEP = 3", "STEP = 4", False),
        ("painted = batch.images", "painted = -batch.images", False),
    ],
)
def test_a_row_holds_until_the_training_of_its_task_changes(old, new, same):
    assert old in TASK
    assert (training_code(TASK) == training_code(TASK.replace(old, new))) == same
