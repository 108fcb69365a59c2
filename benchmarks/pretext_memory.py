"""How well the memory of a run is estimated before it begins: TASK_memory, estimated / needed.

    python benchmarks/pretext_memory.py [--json] [--quick] [--tasks NAME ...] [--workspace FOLDER]

Needed is what a process of its own has at its peak over what it had after a run of one small batch, so that libraries
and their threads count on no side; Linux keeps both. Each task runs on the scans and with the encoder of
`pretext_table.py`, two steps at its batch, in three processes: how a heap falls into pieces differs by up to 15 %
from one to the next, so the median counts, and all three stand beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
from pretext_sets import BATCH, SETS, encoder_of, sets_of
from pretext_speed import scans

from medssl.pretext import task_class, tasks
from medssl.training import fit
from medssl.training.run import of_cohort
from medssl.workspace import Workspace

AT_LEAST, AT_MOST = 0.85, 1.15
QUICK = ("rotation", "simclr")
TIMES = 3  # processes a task is measured in


def measure(task: str, workspace: Workspace) -> dict[str, int]:
    """Bytes needed and estimated; run in a fresh process, whose memory nothing else has touched."""
    kind, place = task_class(task), SETS[sets_of(task)[0]]
    cohort, view = scans(place, workspace)
    samples, about = of_cohort(cohort, task, view, frozenset())
    options = {"settings": place.settings, "modality": about["modality"], "encoder": encoder_of(kind)}
    with tempfile.TemporaryDirectory() as folder:
        fit(samples, task, out=Path(folder) / "small", batch=max(8, kind.least_batch), steps=1, **options)
        gc.collect()  # the small run's samples and weights lie in circles
        before = psutil.Process().memory_info().rss
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
        fit(samples, task, out=Path(folder) / "whole", batch=BATCH, steps=2, **options)
        estimated = json.loads((Path(folder) / "whole" / "run.json").read_text())["plan"]["memory"]
    needed = peak() - before
    return {"needed": needed, "estimated": estimated}


def row_of(task: str, measured: list[dict[str, int]]) -> dict[str, Any]:
    """The median of what was needed, which is one that was, and beside it the ratio of each process."""
    needed = statistics.median_low(one["needed"] for one in measured)
    estimated = measured[0]["estimated"]  # the same in all: it counts tensors
    each = [round(one["estimated"] / one["needed"], 2) for one in measured]
    value = round(estimated / needed, 2)
    return {"name": f"{task}_memory", "needed": needed, "estimated": estimated, "value": value, "each": each}


def peak() -> int:
    """The most bytes that this process has had resident since its peak was cleared."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = list(tasks())
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)} alone")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", choices=every)
    parser.add_argument("--workspace", type=Path, help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workspace = Workspace(options.workspace)
    chosen = options.tasks or (QUICK if options.quick else every)
    if options.one:
        print(json.dumps(measure(chosen[0], workspace)))
        return 0
    rows = []
    for task in chosen:
        command = [sys.executable, __file__, "--one", "--tasks", task, "--workspace", str(workspace.path)]
        runs = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True) for _ in range(TIMES)]
        rows.append(row_of(task, [json.loads(run.stdout.splitlines()[-1]) for run in runs]))
        row = rows[-1]
        print(f"{row['name']} = {row['value']:g} of {row['each']}, {AT_LEAST:g} to {AT_MOST:g}", file=sys.stderr)
    checks = [{"name": row["name"], "value": row["value"], "at_least": AT_LEAST, "at_most": AT_MOST} for row in rows]
    machine = {"processor": platform.machine(), "cores": torch.get_num_threads(), "torch": str(torch.__version__)}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| check | value | estimated, MiB | needed, MiB |\n|---|---|---|---|")
        for row in rows:
            print(f"| {row['name']} | {row['value']} | {row['estimated'] / 2**20:.0f} | {row['needed'] / 2**20:.0f} |")
    return 0 if all(AT_LEAST <= row["value"] <= AT_MOST for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
