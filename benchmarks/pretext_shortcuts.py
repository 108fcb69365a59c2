"""Each shortcut that a setting opens: does the pretext task get easier, and do its features get better?

    python benchmarks/pretext_shortcuts.py [--only NAME ...] [--minutes 1] [--json] [--workspace DIR]

The task is pretrained twice on real scans, as it stands and with the shortcut open, for the same number of steps. What
it got right is averaged over the whole run, since an easy question is learned sooner; features are compared as in
`pretext_trials.py`, on validation patients. Finished lines are kept in `benchmarks/results/pretext_shortcuts.json`
while the task's own file stays; `docs/pretext_tasks.md` lists them.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pretext_code import task_code
from pretext_page import RESULTS, opened, write_page
from pretext_table import numbers
from pretext_trials import probed

from medssl.progress import say
from medssl.training.history import read_history
from medssl.workspace import Workspace, code_revision, write_json

FILE = RESULTS / "pretext_shortcuts.json"
WHOLE = {"crop": [1.0, 1.0], "rotation": 0.0}
# by name: task, set, the settings that open it, and what to look at in the history
SHORTCUTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "border of the image": ("rotation", "kermany_cxr", {"views": WHOLE}, "accuracy"),
    "small holes": ("inpainting", "kermany_cxr", {"cells": 32}, "loss"),
    "gray levels of a tile": ("jigsaw", "kermany_cxr", {"normalise": False}, "accuracy"),
    "gray levels of a patch": ("relative_patch", "kermany_cxr", {"normalise": False}, "accuracy"),
    "traces of the decoder": ("artifacts", "kermany_cxr", {"decoded": False}, "accuracy"),
    "levels that no image has": ("artifacts", "kermany_cxr", {"likeness": 0.0}, "accuracy"),
    "brightness along a triple": ("slice_verification", "hippocampus_slices", {"normalise": False}, "accuracy"),
    "brightness along four": ("slice_sorting", "hippocampus_slices", {"normalise": False}, "accuracy"),
    "brightness of near slices": ("slice_contrast", "hippocampus_slices", {"normalise": False}, "accuracy"),
    "the same scan": ("tracked_patch", "hippocampus_slices", {"within": False}, "accuracy"),
    "a level is itself": ("slice_propagation", "hippocampus_slices", {"curves": False}, "accuracy"),
    "the same place": ("slice_propagation", "hippocampus_slices", {"views": WHOLE}, "accuracy"),
}


def measure(name: str, minutes: float, workspace: Workspace) -> dict[str, Any]:
    """One line: the pretext task's figure and the probe, shut and open."""
    task, place, changes, figure = SHORTCUTS[name]
    results, folders, steps = probed(task, {"shut": {}, "open": changes}, place, minutes, workspace)
    scores = results.scores().set_index("arm")
    gaps = results.differences().set_index(["arm", "baseline"])
    figures = {arm: read_history(folder / "history.jsonl")[figure].mean() for arm, folder in folders.items()}
    return {
        "shortcut": name,
        "task": task,
        "set": place,
        "changes": changes,
        "minutes": minutes,
        "steps": steps,
        "figure": figure,
        "pretext": {arm: round(float(value), 4) for arm, value in figures.items()},
        "score": {arm: numbers(scores.loc[arm], ["score", "low", "high"]) for arm in ("random", "shut", "open")},
        "open_minus_shut": numbers(gaps.loc["open", "shut"], ["difference", "low", "high"]),
        "task_code": task_code(task),
        "code": code_revision("."),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(SHORTCUTS), default=list(SHORTCUTS))
    parser.add_argument("--minutes", type=float, default=1, help="of pretraining, shut and open; default 1")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--workspace", help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    options = parser.parse_args()
    kept = json.loads(FILE.read_text()) if FILE.is_file() else []
    lines = {line["shortcut"]: line for line in kept}
    for name in options.only:
        task, _, changes, _ = SHORTCUTS[name]
        old = lines.get(name, {})
        if [old.get(k) for k in ("changes", "minutes", "task_code")] != [changes, options.minutes, task_code(task)]:
            say(f"shortcut: {name}, of {task}")
            lines[name] = measure(name, options.minutes, Workspace(options.workspace))
            write_json(FILE, [lines[name] for name in SHORTCUTS if name in lines])
    shown = [lines[name] for name in options.only]
    print(json.dumps({"shortcuts": shown}) if options.json else opened(shown))
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
