"""How long few-label evaluation takes: all probes of an experiment, and one finetuning job.

    python benchmarks/transfer_speed.py [--json] [--quick]

`probes_s`: logistic regressions of 6 encoders x 6 budgets x 20 draws x 7 penalties on 2,000 x 512 made-up features, 3
classes; the budgets are 2, 5, 10, 25, 50 units a class and all 1,000 of the pool. The energy of the features' axes
falls as 1 / k, as it does in good embeddings (Agrawal 2022). `probes_vs_sklearn`: how many times longer scikit-learn's
`LogisticRegression` takes in a loop over the same fits, at its default tolerance and with one thread, with which it is
quicker than with two. It is measured on the first encoder (with `--quick` two of its draws) and scaled up to all.
The 20 draws of `all` are the same units: ours solves them once, the loop as often as they are drawn;
`probes_vs_sklearn_distinct` in the rows counts them once on both sides. `probes_auc_gap`: the largest difference in
macro AUC on the other 1,000 units over that sample.

`job_s`: one finetuning job (50 images of 64 px, 60 steps, the small encoder) from its sending to a worker that ran one
before, until its evidence is written, by the experiment's own `run_job`, in the precision that an experiment would
choose. `job_startup_s`: the same job with a single step: all that is no training, and that step.
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

import numpy as np
import pandas as pd

from medssl.metrics import score_metric

UNITS, POOL, WIDTH, CLASSES, DRAWS = 2000, 1000, 512, 3, 20
BUDGETS: tuple[int | str, ...] = (2, 5, 10, 25, 50, "all")
PENALTIES = np.geomspace(0.002, 20, 7) * WIDTH  # two decades on either side of the probe's default
AT_MOST = {"probes_s": 20.0, "probes_auc_gap": 0.005, "job_s": 5.0, "job_startup_s": 0.5}
AT_LEAST = {"probes_vs_sklearn": 10.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="two encoders instead of six, and one trial of each job")
    options = parser.parse_args()
    rows = probes(encoders=2 if options.quick else 6, sampled=2 if options.quick else DRAWS)
    with tempfile.TemporaryDirectory() as folder:
        rows += job(Path(folder), trials=1 if options.quick else 3)
    checks = [
        {"name": row["name"], "value": row["value"], side: bounds[row["name"]]}
        for row in rows
        for side, bounds in (("at_most", AT_MOST), ("at_least", AT_LEAST))
        if row["name"] in bounds
    ]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "quick": options.quick}
    print(json.dumps({"checks": checks, "rows": rows, "machine": machine}) if options.json else table(rows))
    return 0 if all(holds(row) for row in rows) else 1


def probes(encoders: int, sampled: int) -> list[dict]:
    """Ours for all fits, scikit-learn for `sampled` of the draws of the first encoder."""
    import torch

    from medssl.transfer.solver import fit_logistic

    seconds, first = 0.0, {}
    for encoder in range(encoders):
        features, truth = made_up(encoder)
        for budget in BUDGETS:
            problems = [draw(truth, budget, seed) for seed in range(DRAWS)]
            start = time.perf_counter()
            found = fit_logistic(features, problems, list(PENALTIES), CLASSES)
            seconds += time.perf_counter() - start
            if encoder == 0:
                first[budget] = problems, found
    theirs, gap = {}, 0.0
    features, truth = made_up(0)
    for budget, (problems, (weight, bias)) in first.items():
        theirs[budget], widest = loop(features, truth, problems[:sampled], weight[:sampled], bias[:sampled])
        gap = max(gap, widest)
    fits = encoders * DRAWS * len(PENALTIES)  # of each budget
    whole = sum(theirs.values()) * fits
    distinct = whole - theirs["all"] * fits * (1 - 1 / DRAWS)
    what = f"{encoders} encoders x {len(BUDGETS)} budgets x {DRAWS} draws x {len(PENALTIES)} penalties"
    sample = f"{sampled * len(BUDGETS) * len(PENALTIES)} of {fits * len(BUDGETS)} fits, scaled up"
    each = ", ".join(f"{budget}: {1000 * mean:.1f}" for budget, mean in theirs.items())
    return [
        {"name": "probes_s", "value": round(seconds, 2), "what": f"{what}, {torch.get_num_threads()} threads"},
        {
            "name": "probes_vs_sklearn",
            "value": round(whole / seconds, 1),
            "what": f"scikit-learn {whole:.0f} s, from {sample}; ms a fit by budget: {each}",
        },
        {
            "name": "probes_vs_sklearn_distinct",
            "value": round(distinct / seconds, 1),
            "what": "the same, where the loop too solves the equal draws of `all` once",
        },
        {"name": "probes_auc_gap", "value": round(gap, 6), "what": "largest difference in macro AUC over the sample"},
    ]


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (2000, 512) float32, standardised, and classes (2000,)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, UNITS)
    latent = rng.normal(size=(UNITS, WIDTH))
    latent[:, :40] += 0.4 * rng.normal(size=(CLASSES, 40))[truth]
    features = latent @ (rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(1 + np.arange(WIDTH))[:, None])
    return ((features - features.mean(0)) / features.std(0)).astype(np.float32), truth


def draw(truth: np.ndarray, budget: int | str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many units a class of the first half, and their classes."""
    if budget == "all":
        units = np.arange(POOL)
    else:
        rng = np.random.default_rng(seed)
        units = np.concatenate([rng.permutation(np.flatnonzero(truth[:POOL] == c))[:budget] for c in range(CLASSES)])
    return units, truth[units]


def loop(
    features: np.ndarray, truth: np.ndarray, problems: list, weight: np.ndarray, bias: np.ndarray
) -> tuple[float, float]:
    """scikit-learn's mean seconds a fit, and the largest difference of its macro AUC from ours."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    seconds, gap, test = [], 0.0, features[POOL:].astype(np.float64)
    with threadpool_limits(1):
        for d, (units, labels) in enumerate(problems):
            for p, penalty in enumerate(PENALTIES):
                start = time.perf_counter()
                model = LogisticRegression(C=1 / penalty, max_iter=10_000).fit(features[units], labels)
                seconds.append(time.perf_counter() - start)
                logits = test @ weight[d, p].T + bias[d, p]
                both = auc(truth[POOL:], logits), auc(truth[POOL:], test @ model.coef_.T + model.intercept_)
                gap = max(gap, abs(both[0] - both[1]))
    return statistics.mean(seconds), gap


def auc(truth: np.ndarray, logits: np.ndarray) -> float:
    """Macro AUC of the softmax of logits (N, C)."""
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    return float(score_metric("auc", truth, chance[None], np.ones((1, len(truth))))[0, 0])


def job(folder: Path, trials: int) -> list[dict]:
    """Seconds from sending a job to a warm worker to its end, the quickest of the trials."""
    from joblib.externals.loky import get_reusable_executor

    from medssl.experiment.job import run_job

    executor = get_reusable_executor(max_workers=1)
    executor.submit(run_job, finetuning(folder, 1, "warm")).result()
    seconds: dict[int, list[float]] = {60: [], 1: []}
    for trial in range(trials):
        for steps, times in seconds.items():
            sent = finetuning(folder, steps, f"{steps}-{trial}")
            start = time.perf_counter()
            executor.submit(run_job, sent).result()
            times.append(time.perf_counter() - start)
    executor.shutdown()
    what = f"50 images of 64 px, %s, the small encoder, one thread, precision {sent.precision}; best of {trials}"
    return [
        {"name": "job_s", "value": round(min(seconds[60]), 2), "what": what % "60 steps"},
        {"name": "job_startup_s", "value": round(min(seconds[1]), 3), "what": what % "1 step"},
    ]


def finetuning(folder: Path, steps: int, key: str):
    """Inputs of a job on 50 labeled images, tested on 50 others."""
    import torch

    from medssl.config import Arm, Target
    from medssl.experiment.job import ArmInputs, EncoderSource, JobInputs
    from medssl.training.rules import resolve_precision

    images = folder / "images.npy"
    if not images.exists():
        np.save(images, np.random.default_rng(0).integers(0, 256, (100, 1, 64, 64), dtype=np.uint8))
    names = [f"u{number}" for number in range(100)]
    units = pd.DataFrame(
        {
            "unit": names,
            "patient": [f"p{number}" for number in range(100)],
            "label": ["a", "b"] * 50,
            "part": ["pool"] * 50 + ["test"] * 50,
        }
    )
    recipe = {"name": "finetune", "min_steps": steps, "epochs": 0.01}
    shared = ArmInputs(
        arm=Arm(encoder="small", strategy=recipe),
        source=EncoderSource("small", "random", 1, 2),
        images=images,
        unit_of=np.arange(100),
        features=None,
        modality="OT",
    )
    return JobInputs(
        key=key,
        experiment="speed",
        cohort="speed",
        arm_name="finetune",
        budget="25",
        draw=0,
        run=0,
        seed=0,
        recipe="",
        split="test",
        precision=resolve_precision("auto", torch.device("cpu"), 2),
        target=Target(name="label"),
        units=units,
        train=tuple(names[:50]),
        test=(),
        shared=shared,
        out=folder / f"{key}.parquet",
    )


def holds(row: dict) -> bool:
    name, value = row["name"], row["value"]
    return value <= AT_MOST.get(name, np.inf) and value >= AT_LEAST.get(name, -np.inf)


def table(rows: list[dict]) -> str:
    lines = ["| check | value | bound | | what |", "|---|---|---|---|---|"]
    for row in rows:
        name, bound = row["name"], ""
        if name in AT_MOST:
            bound = f"at most {AT_MOST[name]:g}"
        elif name in AT_LEAST:
            bound = f"at least {AT_LEAST[name]:g}"
        verdict = ("holds" if holds(row) else "FAILS") if bound else ""
        lines.append(f"| {name} | {row['value']} | {bound} | {verdict} | {row['what']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
