"""How close each pretext task comes to its own limit: TASK_vs_limit.

    python benchmarks/pretext_speed.py [--json] [--quick] [--tasks NAME ...] [--workspace FOLDER]

The limit is forward, loss, backward and optimizers, heads, momentum copies and adversaries included, on one fixed batch
of what the task made of its images: no samples, no views, no tiles or holes, no log. The loop is `medssl.training.fit`
as a user runs it. Both run in turns, and a ratio is that of the medians. Each task runs on the scans and with the
encoder of `pretext_table.py`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import torch
from pretext_sets import SETS, Set, encoder_of, sets_of
from pretrain_bench import BATCH, Bench

from medssl.cohort import Cohort
from medssl.config import Source, View, validate
from medssl.experiment.prepare import ensure_cohort
from medssl.pretext import task_class, tasks
from medssl.training.plan import Request
from medssl.training.run import make_fabric, of_cohort
from medssl.workspace import Workspace

AT_LEAST = 0.70


def vs_limit(bench: Bench, task: str, workspace: Workspace) -> dict:
    encoder = encoder_of(task_class(task))
    place = SETS[sets_of(task)[0]]
    cohort, view = scans(place, workspace)
    samples, about = of_cohort(cohort, task, view, frozenset())
    engine = {"encoder": encoder, "batch": BATCH}
    request = Request(samples, task, place.settings, frozenset(), about["modality"], engine, make_fabric)
    sides = {
        "limit": bench.held(request),
        "loop": bench.whole(samples, task, about["modality"], place.settings, **engine),
    }
    speeds = bench.turns(sides)
    return {
        "name": f"{task}_vs_limit",
        "encoder": encoder,
        **speeds,
        "value": round(speeds["loop"] / speeds["limit"], 3),
    }


def scans(place: Set, workspace: Workspace) -> tuple[Cohort, View]:
    """What the table pretrains on for this set."""
    place.make(workspace)
    raw = place.config()
    source = place.volumes or validate(Source, raw["cohort"], "cohort")
    return ensure_cohort(source, workspace), validate(View, raw["view"], "view")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = list(tasks())
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", choices=every, default=every)
    parser.add_argument("--workspace", type=Path, help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.quick)
        for task in options.tasks:
            row = vs_limit(bench, task, Workspace(options.workspace))
            rows.append(row)
            verdict = "holds" if row["value"] >= AT_LEAST else "FAILS"
            print(f"{row['name']} = {row['value']:g}, at least {AT_LEAST:g}: {verdict}", file=sys.stderr)
    checks = [{"name": row["name"], "value": row["value"], "at_least": AT_LEAST} for row in rows]
    machine = {"processor": platform.machine(), "cores": torch.get_num_threads(), "torch": str(torch.__version__)}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| check | value | limit, images/s | loop, images/s |\n|---|---|---|---|")
        for row in rows:
            print(f"| {row['name']} ({row['encoder']}) | {row['value']} | {row['limit']:.0f} | {row['loop']:.0f} |")
    return 0 if all(row["value"] >= AT_LEAST for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
