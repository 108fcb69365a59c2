"""Settings of a pretext task, tried on the validation patients of a set; its test patients are never looked at.

    python benchmarks/pretext_trials.py TASK '{"cells": 4}' [JSON ...] [--set kermany_cxr] [--minutes 2] [--json]

Each trial pretrains for so many minutes with settings changed so, as `pretext_table.py` does, and a linear probe at 10
labels a class over 10 draws is scored on validation patients, against the random features of the same encoder. `{}`
tries the settings as they stand. Trials are kept in `benchmarks/results/trials_SET_TASK.json` and not made again while
the task's own file stays; `docs/pretext_tasks.md` lists them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pretext_code import task_code
from pretext_page import RESULTS
from pretext_sets import BATCH, SETS
from pretext_table import FULL, LABELS, Row, numbers

from medssl.config import Experiment, validate
from medssl.experiment import Results, run
from medssl.experiment.plan import make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.pretext import tasks
from medssl.workspace import Workspace, code_revision, digest, write_json


def probed(
    task: str, variants: dict[str, dict[str, Any]], place: str, minutes: float, workspace: Workspace
) -> tuple[Results, dict[str, Path], int]:
    """Pretrain with each variant of the settings, for as many steps as the first one makes in so many minutes, and
    probe on validation patients.

    Returns:
        results, with an arm a variant and `random`; the folder of each run; steps.
    """
    chosen = SETS[place]
    rows = {name: Row(task, place, minutes, FULL, RESULTS, changes=changes) for name, changes in variants.items()}
    first = next(iter(rows))
    encoder = rows[first].encoder
    chosen.make(workspace)
    arms = {"random": {"encoder": encoder}}
    raw = chosen.config() | {
        "name": f"trial_{place}_{task}_{digest(variants, 6)}",
        "evaluate": "validation",
        "budgets": [LABELS],
        "draws": FULL["draws"],
        "replicates": FULL["replicates"],
        "metrics": ["auc"],
        "baseline": "random",
        "arms": arms,
    }
    config = validate(Experiment, raw, place)
    plan = make_plan(config, ensure_cohort(config.cohort, workspace))
    steps, folders = rows[first].steps(plan, workspace), {}
    for name, row in rows.items():
        spec = {"task": task, "encoder": encoder, "batch": BATCH, "steps": steps, "settings": row.settings}
        folders[name] = row.apart(plan, spec, workspace)
        arms[name] = {"encoder": encoder, "init": str(folders[name] / "checkpoint.safetensors")}
    raw["baseline"] = ["random"] if len(rows) == 1 else ["random", first]
    return run(validate(Experiment, raw, place), workspace), folders, steps


def try_out(task: str, changes: dict[str, Any], place: str, minutes: float, workspace: Workspace) -> dict[str, Any]:
    """One trial: pretrain with these settings, probe, score on validation patients."""
    name, what = f"{task}_{digest(changes, 6)}", Row(task, place, minutes, FULL, RESULTS, changes=changes).what
    results, _, steps = probed(task, {name: changes}, place, minutes, workspace)
    score, gap = results.scores().set_index("arm").loc[name], results.differences().set_index("arm").loc[name]
    return {
        "changes": changes,
        "settings": what["settings"],
        "minutes": minutes,
        "steps": steps,
        "score": numbers(score, ["score", "low", "high"]),
        "minus_random": numbers(gap, ["difference", "low", "high"]),
        "task_code": what["task_code"],
        "code": code_revision("."),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(tasks()))
    parser.add_argument("changes", nargs="+", type=json.loads, metavar="JSON", help="changes of the task's settings")
    parser.add_argument("--set", default="kermany_cxr", choices=list(SETS))
    parser.add_argument("--minutes", type=float, default=2, help="of pretraining a trial; default 2")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--workspace", help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    options = parser.parse_args()
    file = RESULTS / f"trials_{options.set}_{options.task}.json"
    made = json.loads(file.read_text()) if file.is_file() else []
    for changes in options.changes:
        now = task_code(options.task)
        same = [t for t in made if (t["changes"], t["minutes"], t["task_code"]) == (changes, options.minutes, now)]
        if same:
            trial = same[0]
        else:
            trial = try_out(options.task, changes, options.set, options.minutes, Workspace(options.workspace))
            if trial["minus_random"][1] is None:
                raise SystemExit(f"{options.set} has too few validation patients to tune by: no interval")
            made.append(trial)
            write_json(file, made)
        if not options.json:
            gap = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*trial["minus_random"])
            said = f"{trial['score'][0]:.3f}, minus random {gap}, {trial['steps']} steps"
            print(f"{json.dumps(changes)}: {said}", flush=True)
    if options.json:
        print(json.dumps({"task": options.task, "set": options.set, "trials": made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
