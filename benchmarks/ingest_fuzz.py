"""Ingest of damaged files: nothing crashes, hangs, eats memory, gets lost or tells a name.

    python benchmarks/ingest_fuzz.py [--json] [--quick] [--cases N] [--seed S] [--only FIRST LAST]

Each batch is a folder of damaged files (`mutations.py`) and one sound image, ingested by a process of its own through
the public `ingest`. Checked is that every batch ends in a report whose counts add up and that holds the sound image,
how long the slowest batch took, the most memory that a batch took in all of its processes, and that no text of a file
and no file name occurs in what was written or printed. `--only 1200 1299` runs these cases alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import CANARY, Original, mutant, originals
from PIL import Image
from processes import peak_mib

from medssl.workspace import data_folder

BATCH = 100  # files
BOUNDS = {
    "crashed_batches": 0,  # ended by a signal, by an exception, or without a report
    "lost_files": 0,  # found - (accepted + rejected + ignored), and sound images that were not accepted
    "hung_files": 0,  # that took longer than one file may (codecs that abort cost one file, as `rejected crashed` says)
    "told_names": 0,  # files of the workspace, or streams, in which the canary occurs
    "slowest_batch_s": 60,  # the limit of one file, here for all of a batch together
    "peak_mib": 2048,
}
CODE = """
import collections, json, sys
from medssl.cohort import Cohort
from medssl.ingest import ingest
from medssl.workspace import Workspace
report = ingest([sys.argv[1]], sys.argv[2], workspace=Workspace(sys.argv[3]))
files = Cohort.open(sys.argv[2]).files()
codes = collections.Counter((files["status"] + " " + files["code"]).tolist())
print(json.dumps(report.as_json()["files"] | {"codes": codes}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="300 cases")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs=2, metavar=("FIRST", "LAST"))
    options = parser.parse_args()
    first, last = options.only or (0, (300 if options.quick else options.cases) - 1)
    files = originals(data_folder())
    batches = []
    for start in range(first, last + 1, BATCH):
        batches.append(batch(files, options.seed, start, min(last, start + BATCH - 1)))
        if not is_sound(batches[-1]):
            print(f"cases {start} to {start + BATCH - 1}: {batches[-1]}", file=sys.stderr)
    value = summary(batches)
    checks = [{"name": name, "value": value[name], "at_most": most} for name, most in BOUNDS.items()]
    codes = sum((Counter(b["codes"]) for b in batches), Counter())
    rows = [{"verdict": code.strip(), "files": count} for code, count in codes.most_common()]
    machine = {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0)), "cases": last - first + 1}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| verdict | files |", "|---|---|", *(f"| {r['verdict']} | {r['files']} |" for r in rows), sep="\n")
        print(f"\n{last - first + 1} cases, seed {options.seed}")
        print(*(f"{c['name']} = {c['value']}, at most {c['at_most']}: {word(c)}" for c in checks), sep="\n")
    return 0 if all(c["value"] <= c["at_most"] for c in checks) else 1


def batch(files: list[Original], seed: int, first: int, last: int) -> dict:
    """What became of one batch: its counts, seconds, MiB, and in how many files of the workspace the canary occurs."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source, work = place / f"{CANARY}source", place / "workspace"
        source.mkdir()
        Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(source / "sound.png")
        for number in range(first, last + 1):
            file, content = mutant(files, seed, number)
            (source / file).write_bytes(content)
        start = time.monotonic()
        run = subprocess.Popen(
            [sys.executable, "-c", CODE, str(source), str(work / "cohorts" / "c"), str(work)],
            stdout=(place / "stdout").open("wb"),
            stderr=(place / "stderr").open("wb"),
        )
        peak = peak_mib(run, limit_s=10 * BOUNDS["slowest_batch_s"])
        seconds = time.monotonic() - start
        out = {"codes": {}, "seconds": round(seconds, 1), "mib": round(peak), "told": told(work, place), "error": ""}
        try:
            out |= json.loads((place / "stdout").read_text())
        except ValueError:
            out["error"] = f"exit {run.returncode}: {(place / 'stderr').read_text(errors='replace')[-2000:]}"
        shutil.rmtree(work, ignore_errors=True)
    return out


def told(work: Path, place: Path) -> int:
    """Files with the canary in their text or name; arrays hold pixels, where it may be by chance of the damage."""
    texts = [p for p in work.rglob("*") if p.is_file() and p.suffix != ".npy"] + [place / "stdout", place / "stderr"]
    return sum(CANARY.encode() in p.read_bytes() or CANARY in str(p.relative_to(place)) for p in texts)


def summary(batches: list[dict]) -> dict:
    whole = [b for b in batches if not b["error"]]
    return {
        "crashed_batches": len(batches) - len(whole),
        "lost_files": sum(map(lost, whole)),
        "hung_files": sum(b["codes"].get("rejected timed_out", 0) for b in whole),
        "told_names": sum(b["told"] for b in batches),
        "slowest_batch_s": max(b["seconds"] for b in batches),
        "peak_mib": max(b["mib"] for b in batches),
    }


def lost(one: dict) -> int:
    return abs(one["found"] - one["accepted"] - one["rejected"] - one["ignored"]) + (one["accepted"] < 1)


def is_sound(one: dict) -> bool:
    value = summary([one])
    return all(value[name] <= most for name, most in BOUNDS.items())


def word(check: dict) -> str:
    return "holds" if check["value"] <= check["at_most"] else "FAILS"


if __name__ == "__main__":
    sys.exit(main())
