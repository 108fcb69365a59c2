"""Whether an ingest that is killed again and again ends in the cohort that it would have made in peace.

    python benchmarks/ingest_kills.py [--json] [--quick]

Twenty SIGKILLs at random moments (three with --quick): each run goes on with what the killed one left, and a run that
ends before its kill is compared and followed by one from empty. Equal means: every byte of every array, and every row
of the catalog. Scans: hippocampus with masks, siim_ct_dicom and dicom_series with its archives at MEDSSL_DATA or
../shared/data.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medssl.cohort import catalog
from medssl.workspace import Workspace, data_folder

KILLS, QUICK_KILLS = 20, 3
SETS = ("hippocampus", "siim_ct_dicom", "dicom_series")
TABLES = ("scans", "files", "parts", "findings", "labels", "masks", "names", "refused", "meta")
SCRIPT = """
import sys
from medssl.ingest import ingest
from medssl.workspace import Workspace
ingest([sys.argv[1]], sys.argv[2], workspace=Workspace(sys.argv[3]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills instead of {KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    data = data_folder()
    if data is None:
        print("no real scans: set MEDSSL_DATA, or put them at ../shared/data", file=sys.stderr)
        return 2
    kills = QUICK_KILLS if options.quick else KILLS
    with tempfile.TemporaryDirectory() as place:
        rows = kill_often(data, Path(place), kills, random.Random(options.seed))
    compared = [row["equal"] for row in rows if row["end"] == "whole"]
    checks = [
        {"name": "kills", "value": sum(row["end"] == "killed" for row in rows), "at_least": kills},
        {"name": "cohorts_that_differ", "value": compared.count(False), "at_most": 0},
    ]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| run | end | after s | arrays | equal |", "|---|---|---|---|---|", sep="\n")
        for row in rows:
            print(f"| {row['run']} | {row['end']} | {row['after_s']} | {row['arrays']} | {row['equal']} |")
    return 1 if False in compared or not compared else 0


def kill_often(data: Path, place: Path, kills: int, chance: random.Random) -> list[dict]:
    """One row a run: how it ended, when, how many arrays there were then, and whether a whole one is equal."""
    source = place / "source"
    source.mkdir()
    for name in SETS:
        (source / name).symlink_to(data / name)
    workspace = Workspace(place / "workspace")
    workspace.secret()
    peace, killed = place / "peace" / "cohort", place / "killed" / "cohort"
    start = time.monotonic()
    run(source, peace, workspace).wait()
    span = time.monotonic() - start
    truth = contents(peace)
    rows: list[dict] = []
    left = kills
    while True:
        process, start = run(source, killed, workspace), time.monotonic()
        while process.poll() is None and not killed.exists():  # imports are no moment of an ingest
            time.sleep(0.002)
        if left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, span))
            process.kill()
        ended = process.wait()
        row = {"run": len(rows), "end": "whole", "after_s": round(time.monotonic() - start, 2), "equal": ""}
        row["arrays"] = sum(1 for _ in killed.glob("arrays/*/s*.npy"))
        rows.append(row)
        if ended == -signal.SIGKILL:
            left -= 1
            row["end"] = "killed"
            continue
        row["equal"] = ended == 0 and contents(killed) == truth
        if not left:
            return rows
        shutil.rmtree(killed)


def run(source: Path, cohort: Path, workspace: Workspace) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(source), str(cohort), str(workspace.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def contents(cohort: Path) -> tuple[dict[str, str], list[str]]:
    """(digest of every file below arrays/, every row of the catalog)."""
    files = sorted(p for p in (cohort / "arrays").rglob("*") if p.is_file())
    arrays = {str(p.relative_to(cohort)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    with catalog.reading(cohort) as db:
        return arrays, [repr(row) for t in TABLES for row in sorted(map(repr, db.execute(f"SELECT * FROM {t}")))]


if __name__ == "__main__":
    sys.exit(main())
