"""How long statistics and the running of jobs take, without any training.

    python benchmarks/statistics_speed.py [--json] [--quick]

`full_table_s`: all scores and differences, with intervals and corrected p-values, of 10 arms x 8 budgets x 20 draws on
600 test patients with 2,000 replicates. `runner_overhead_ms`: wall-clock time a job beside the job's own work: an
experiment of raw pixels is run on made-up images, and the median time of the fit alone is taken off. `load_10k_jobs_s`:
an experiment with 10,000 finished jobs of 200 test units is opened and its evidence is there as arrays; `cold` is the
first time, when 10,000 files are read and one copy is made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from medssl.config import Experiment, validate
from medssl.experiment import Results, run
from medssl.experiment.index import Index
from medssl.experiment.plan import Job
from medssl.statistics import Evidence, Replicates, differences, scores
from medssl.workspace import Workspace

BOUNDS = {"full_table_s": 15.0, "runner_overhead_ms": 50.0, "load_10k_jobs_s": 2.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="a fifth of the table and of the jobs")
    options = parser.parse_args()
    share = 0.2 if options.quick else 1.0
    with tempfile.TemporaryDirectory() as folder:
        rows = [full_table(share), overhead(Path(folder) / "run", share), loading(Path(folder) / "load", share)]
    bounds = {
        name: bound * (share if options.quick and name != "runner_overhead_ms" else 1) for name, bound in BOUNDS.items()
    }
    checks = [{"name": row["name"], "value": row["value"], "at_most": bounds[row["name"]]} for row in rows]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "quick": options.quick}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows, bounds))
    return 0 if all(check["value"] <= check["at_most"] for check in checks) else 1


def full_table(share: float) -> dict:
    """Seconds for both tables."""
    arms, budgets, draws, patients, replicates = 10, 8, 20, 600, 2000
    arms = round(arms * share)
    rng = np.random.default_rng(0)
    truth = np.arange(patients) % 2
    cells = {}
    for arm in range(arms):
        for budget in range(1, budgets + 1):
            logits = truth * (1 + 0.1 * arm) + rng.normal(size=(draws, patients))
            chance = 1 / (1 + np.exp(-logits))
            cells[f"arm{arm}", budget] = np.stack([1 - chance, chance], 2)[None].astype(np.float32)
    numbers = {cell: np.arange(draws) for cell in cells}
    evidence = Evidence(["no", "yes"], np.arange(patients), np.arange(patients), truth, cells, numbers)
    start = time.perf_counter()
    boot = Replicates(evidence, ["auc"], replicates)
    same = {(f"arm{arm}", "arm0"): True for arm in range(arms)}
    sizes = len(scores(boot)), len(differences(boot, ["arm0"], same))
    seconds = time.perf_counter() - start
    what = f"{arms} arms x {budgets} budgets x {draws} draws x {patients} patients x {replicates} replicates"
    return {
        "name": "full_table_s",
        "value": round(seconds, 2),
        "what": what,
        "scores": sizes[0],
        "differences": sizes[1],
    }


def overhead(folder: Path, share: float) -> dict:
    """Milliseconds a job beside its work, one worker a core."""
    source = folder / "scans"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["file,patient,label"]
    for number in range(400):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(source / f"scan{number}.png")
        lines.append(f"scan{number}.png,p{number},{'ab'[number % 2]}")
    (source / "labels.csv").write_text("\n".join(lines) + "\n")
    draws = max(5, round(50 * share))
    labels = {"file": "labels.csv", "scan": "file", "patient": "patient"}
    raw = {
        "name": "overhead",
        "cohort": {"name": "overhead", "source": str(source), "labels": labels},
        "target": {"name": "label"},
        "view": {"size": 32},
        "budgets": [2, 5, 10, 25, "all"],
        "draws": draws,
        "arms": {"pixels": {"encoder": "pixels"}, "again": {"encoder": "pixels"}},
        "baseline": "pixels",
    }
    config, workspace = validate(Experiment, raw, "overhead"), Workspace(folder / "workspace")
    run(config.model_copy(update={"draws": 3}), workspace)  # scans, samples, features and workers are there
    shutil.rmtree(workspace.experiment("overhead") / "results")
    start = time.perf_counter()
    results = run(config, workspace)
    seconds = time.perf_counter() - start
    jobs = results.jobs()
    workers = os.cpu_count() or 1
    own = float(jobs["seconds"].sum()) / workers
    value = 1000 * (seconds - own) / len(jobs)
    return {
        "name": "runner_overhead_ms",
        "value": round(value, 1),
        "what": f"{len(jobs)} jobs in {seconds:.1f} s, {workers} workers",
        "job_ms": round(1000 * statistics.median(jobs["seconds"]), 1),
    }


def loading(folder: Path, share: float) -> dict:
    """Seconds to open an experiment with many finished jobs, and to have its evidence."""
    place = folder / "experiments" / "many"
    (place / "results").mkdir(parents=True)
    arms, draws, units = 10, max(10, round(200 * share)), 200
    budgets = [1, 2, 5, 10, 25]
    raw = {
        "name": "many",
        "cohort": {"name": "many", "source": "none"},
        "target": {"name": "label"},
        "budgets": budgets,
        "draws": draws,
        "arms": {f"arm{i}": {"encoder": "pixels"} for i in range(arms)},
        "baseline": "arm0",
    }
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "unit": np.repeat([f"u{i:016x}" for i in range(units)], 2),
            "patient": np.repeat([f"p{i:016x}" for i in range(units)], 2),
            "cls": ["a", "b"] * units,
            "truth": np.tile([1, 0, 0, 1], units // 2).astype(np.float32),
        }
    )
    jobs = [
        Job(f"{a}{b}-{d}", f"arm{a}", b, d, 0, "32", ()) for a in range(arms) for b in budgets for d in range(draws)
    ]
    for job in jobs:
        about = {"job": job.key, "arm": job.arm, "budget": str(job.budget), "draw": job.draw, "run": 0, "split": "test"}
        rows = frame.assign(score=rng.random(2 * units).astype(np.float32), **about)
        rows.to_parquet(place / "results" / f"{job.key}.parquet", index=False)
    index = Index(place)
    index.plan(jobs, {job.key for job in jobs})
    index.close()
    config = validate(Experiment, raw, "many")
    (place / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        cells = Results.open(place).arrays.scores
        seconds.append(time.perf_counter() - start)
        assert len(cells) == arms * len(budgets)
    return {
        "name": "load_10k_jobs_s",
        "value": round(seconds[1], 2),
        "what": f"{len(jobs)} jobs of {units} test units; first time {seconds[0]:.1f} s",
        "cold_s": round(seconds[0], 2),
    }


def table(rows: list[dict], bounds: dict[str, float]) -> str:
    lines = ["| check | value | at most | | what |", "|---|---|---|---|---|"]
    for row in rows:
        holds = "holds" if row["value"] <= bounds[row["name"]] else "FAILS"
        lines.append(f"| {row['name']} | {row['value']} | {bounds[row['name']]:g} | {holds} | {row['what']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
