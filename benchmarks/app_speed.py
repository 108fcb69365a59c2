"""How long the page of curves takes in a browser: with the demo's results, and with an experiment of 10,000 jobs.

    python benchmarks/app_speed.py [--json] [--quick] [--demo DIR] [--many DIR]

`first_paint_s`: from asking for the page to the drawn curve, the first time after the server is up. `interaction_s`:
from a click (an arm off, the same on again, another metric) to the redrawn curve, the median of six. Both again with
10,000 finished jobs (10 arms x 5 budgets x 200 draws), whose tables are stored as `medssl run` leaves them.

`--demo` names a workspace in which `medssl demo` has run; without it the demo is run first. `--many` names a folder in
which the large experiment is kept from one call to the next. Needs playwright and a Chromium (`CHROMIUM` may name it).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import yaml

from medssl.config import Experiment, validate
from medssl.experiment import Results
from medssl.experiment.index import Index
from medssl.experiment.plan import Job
from medssl.workspace import Workspace, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
from make_screenshots import FLAGS, chromium, serve

BOUNDS = {"first_paint_s": 3.0, "interaction_s": 1.0, "first_paint_10k_s": 4.0, "interaction_10k_s": 1.5}
CHART = ":is(.stVegaLiteChart canvas, .stVegaLiteChart svg.marks)"
ARMS, BUDGETS, DRAWS, UNITS = 10, [1, 2, 5, 10, 25], 200, 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="the quick demo, and a tenth of the jobs")
    parser.add_argument("--demo", type=Path, help="a workspace in which the demo has run")
    parser.add_argument("--many", type=Path, help="a folder for the large experiment, kept")
    options = parser.parse_args()
    program = chromium()
    if program is None:
        print("No Chromium: install one, or name it with CHROMIUM.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        demo = options.demo or _demo(Path(folder) / "demo", options.quick)
        many = options.many or Path(folder) / "many"
        name = _many_jobs(many, DRAWS // 10 if options.quick else DRAWS)
        rows = [*measured(program, demo, _first(demo), ""), *measured(program, many, name, "_10k")]
    checks = [{"name": row["name"], "value": row["value"], "at_most": BOUNDS[row["name"]]} for row in rows]
    if options.json:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "quick": options.quick}
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows))
    return 0 if all(check["value"] <= check["at_most"] for check in checks) else 1


def measured(program: str, workspace: Path, experiment: str, suffix: str) -> list[dict[str, Any]]:
    """First paint and interaction on a server of its own."""
    from playwright.sync_api import sync_playwright

    jobs = len(Results.open(Workspace(workspace).experiment(experiment)).jobs())
    with serve(workspace) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        page.goto(f"{address}/label-efficiency?experiment={experiment}")
        page.wait_for_selector(CHART)
        paint = time.perf_counter() - start
        _settled(page)
        arm = page.get_by_role("group", name="Arms").or_(page.get_by_test_id("stButtonGroup").nth(1)).first
        first = arm.get_by_role("button").or_(arm.get_by_role("checkbox")).first
        metrics = page.get_by_test_id("stButtonGroup").first
        buttons = metrics.get_by_role("button").or_(metrics.get_by_role("radio"))
        clicks = [first, first, buttons.last, buttons.first, first, first]
        seconds = [_click(page, button) for button in clicks]
        browser.close()
    what = f"{jobs:,} jobs"
    worst = f"{what}; each click: {', '.join(f'{s:.2f}' for s in seconds)}"
    return [
        {"name": f"first_paint{suffix}_s", "value": round(paint, 2), "what": what},
        {"name": f"interaction{suffix}_s", "value": round(statistics.median(seconds), 2), "what": worst},
    ]


def _click(page: Any, button: Any) -> float:
    """Seconds from the click to another drawing of the curve."""
    curve = f"document.querySelector('{CHART}')"  # the first chart of the page
    page.evaluate(f"{curve}.dataset.before = '1'")
    start = time.perf_counter()
    button.click()
    page.wait_for_function(f"{curve} && !{curve}.dataset.before", polling=20)
    seconds = time.perf_counter() - start
    _settled(page)
    return seconds


def _settled(page: Any) -> None:
    """The script has run to its end, and nothing waits for it."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(300)


def _demo(folder: Path, quick: bool) -> Path:
    from medssl.demo import run_demo
    from medssl.report import publish

    publish(run_demo(Workspace(folder), quick=quick))
    return folder


def _first(workspace: Path) -> str:
    """The demo, by its name or else whatever was made there."""
    names = [folder.name for folder in Workspace(workspace).experiments()]
    return next((name for name in names if name.startswith("demo")), names[0])


def _many_jobs(workspace: Path, draws: int) -> str:
    """An experiment whose jobs are all done, written file by file with made-up scores; its tables are stored."""
    name = f"many_{ARMS * len(BUDGETS) * draws}"
    place = Workspace(workspace).experiment(name)
    if (place / "complete").exists():
        return name
    (place / "results").mkdir(parents=True, exist_ok=True)
    raw = {
        "name": name,
        "cohort": {"name": "made_up", "source": "none"},
        "target": {"name": "label"},
        "budgets": BUDGETS,
        "draws": draws,
        "arms": {f"arm{i}": {"encoder": "pixels"} for i in range(ARMS)},
        "baseline": ["arm0"],
        "replicates": 200,
    }
    config = validate(Experiment, raw, name)
    rng = np.random.default_rng(0)
    truth = np.tile([1.0, 0.0, 0.0, 1.0], UNITS // 2).astype(np.float32)
    columns = {
        "unit": np.repeat([f"u{i:016x}" for i in range(UNITS)], 2),
        "patient": np.repeat([f"p{i:016x}" for i in range(UNITS)], 2),
        "cls": np.tile(["a", "b"], UNITS),
        "truth": truth,
    }
    jobs = []
    for arm in range(ARMS):
        for budget in BUDGETS:
            for draw in range(draws):
                job = Job(f"{arm}-{budget}-{draw}", f"arm{arm}", budget, draw, 0, "32", ())
                skill = 0.1 * arm + 0.2 * np.log(budget)
                score = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(0, 1.5, 2 * UNITS))))
                about = {"job": job.key, "arm": job.arm, "budget": str(budget), "draw": draw, "run": 0, "split": "test"}
                same = {key: np.repeat([value], 2 * UNITS) for key, value in about.items()}
                rows = pa.table({**columns, "score": score.astype(np.float32), **same})
                parquet.write_table(rows, place / "results" / f"{job.key}.parquet")
                jobs.append(job)
    index = Index(place)
    index.plan(jobs, {job.key for job in jobs})
    index.close()
    labels = {str(budget): [f"l{i:016x}" for i in range(2 * budget)] for budget in BUDGETS}
    write_json(place / "budgets.json", {str(draw): labels for draw in range(draws)})
    sizes = {"units": UNITS, "patients": UNITS, "patients_all": UNITS}
    facts = {"cohort": {"name": "made_up"}, "parts": {"pool": sizes, "test": sizes}, "classes": {}}
    write_json(place / "facts.json", facts)
    (place / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    Results.open(place).scores()
    (place / "complete").touch()
    return name


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| check | value | at most | | what |", "|---|---|---|---|---|"]
    for row in rows:
        holds = "holds" if row["value"] <= BOUNDS[row["name"]] else "FAILS"
        lines.append(f"| {row['name']} | {row['value']} | {BOUNDS[row['name']]:g} | {holds} | {row['what']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
