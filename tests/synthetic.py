"""Made-up results, shared by the tests of figures, report and app: tidy frames, and a whole experiment's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ARMS = ["pixels", "random", "scratch", "imagenet", "rotation", "inpainting", "simclr", "imagenet_simclr"]
BUDGETS: list[int | str] = [2, 5, 10, 25, 50, "all"]
LABEL_COUNTS: dict[int | str, int] = {2: 6, 5: 15, 10: 30, 25: 75, 50: 150, "all": 612}


def scores(arms: list[str] = ARMS, metrics: tuple[str, ...] = ("auc", "accuracy"), seed: int = 0) -> pd.DataFrame:
    """Plausible curves; "all" has no interval, nor has `pixels` at any budget."""
    rng = np.random.default_rng(seed)
    rows = []
    for metric in metrics:
        for i, arm in enumerate(arms):
            top, slope = 0.82 + 0.018 * i, 0.13 - 0.008 * i
            for k, budget in enumerate(BUDGETS):
                score = top - slope * (1 - k / (len(BUDGETS) - 1)) ** 1.5 + rng.normal(0, 0.003)
                half = np.nan if budget == "all" or arm == "pixels" else 0.034 - 0.004 * k
                rows.append((arm, budget, metric, score, score - half, score + half, 10, 240, 118))
    columns = ["arm", "budget", "metric", "score", "low", "high", "draws", "units", "patients"]
    return pd.DataFrame(rows, columns=columns)


def differences(arms: list[str] = ARMS, baseline: str = "scratch", metrics: tuple[str, ...] = ("auc", "accuracy")):
    """Paired differences to `baseline` that go with `scores`."""
    table = scores(arms, metrics)
    rows = []
    for metric in metrics:
        part = table[table["metric"] == metric].set_index(["arm", "budget"])
        for arm in (a for a in arms if a != baseline):
            for budget in BUDGETS:
                here, there = part.loc[(arm, budget)], part.loc[(baseline, budget)]
                gain = float(here["score"] - there["score"])
                half = np.nan if np.isnan(here["low"]) else 0.6 * float(here["high"] - here["score"])
                low, high = gain - half, gain + half
                verdict = (
                    "not estimable"
                    if np.isnan(half)
                    else "helps"
                    if low > 0
                    else "hurts"
                    if high < 0
                    else "no evidence"
                )
                same = arm not in ("pixels", "imagenet")
                rows.append((arm, baseline, budget, metric, gain, low, high, verdict, same))
    columns = ["arm", "baseline", "budget", "metric", "difference", "low", "high", "verdict", "same_encoder"]
    return pd.DataFrame(rows, columns=columns)


def histories() -> dict[str, pd.DataFrame]:
    """Loss over steps of three runs on very different scales."""
    rng = np.random.default_rng(1)
    steps = np.arange(1, 801)
    shape = np.exp(-steps / 150)
    return {
        "rotation": pd.DataFrame({"step": steps, "loss": 0.6 + 0.8 * shape + rng.normal(0, 0.05, 800)}),
        "inpainting": pd.DataFrame({"step": steps, "loss": 0.004 + 0.05 * shape + rng.normal(0, 0.001, 800)}),
        "simclr": pd.DataFrame({"step": steps, "loss": 2.2 + 3.1 * shape + rng.normal(0, 0.1, 800)}),
    }


CONFIG: dict[str, Any] = {
    "name": "synthetic",
    "title": "Synthetic <experiment> & more",
    "note": "These patients are virtual: a demonstration, no evidence.",
    "cohort": {"name": "virtual", "source": "virtual"},
    "target": {"name": "lesion"},
    "budgets": [2, 5, "all"],
    "draws": 4,
    "pretraining": {
        "rotation": {"task": "rotation", "steps": 800},
        "simclr": {"task": "simclr", "steps": 800},
    },
    "arms": {
        "pixels": {"encoder": "pixels"},
        "scratch": {"strategy": "finetune"},
        "rotation": {"pretrain": "rotation"},
        "simclr": {"pretrain": "simclr"},
    },
    "baseline": ["scratch", "pixels"],
    "claim": {"arm": "simclr", "baseline": "scratch", "budget": 5},
    "replicates": 200,
}
SKILL = {"pixels": 0.3, "scratch": 0.5, "rotation": 0.9, "simclr": 1.6}


def write_experiment(workspace: Path, name: str = "synthetic", draws: int = 4, test_units: int = 60) -> Path:
    """A finished experiment, written file by file as `medssl run` leaves it, with made-up predictions.

    Args:
        workspace: its folder; a folder `encoders/` with two pretraining histories is made beside the experiment.
        draws: with fewer than three no interval is estimable.
        test_units: with fewer than 30 no interval is estimable either.
    """
    from medssl.config import Experiment
    from medssl.experiment.index import Index
    from medssl.experiment.plan import Job
    from medssl.experiment.ways import ways_table

    folder = workspace / "experiments" / name
    (folder / "results").mkdir(parents=True)
    config = Experiment.model_validate({**CONFIG, "name": name, "draws": draws})
    counts = {"2": 4, "5": 10, "all": 80}
    budgets = {str(d): {b: [f"u{i}" for i in range(n)] for b, n in counts.items()} for d in range(draws)}
    facts = {
        "cohort": {"name": "virtual", "hash": "c0ffee12c0ffee12", "scans": 150},
        "parts": {
            "pool": {"units": 80, "patients": 60, "patients_all": 64},
            "validation": {"units": 10, "patients": 8, "patients_all": 8},
            "test": {"units": test_units, "patients": 45, "patients_all": 45},
        },
        "classes": {"pool": {"none": 50, "lesion": 30}, "test": {"none": test_units // 2, "lesion": test_units // 2}},
        "split": "5eed5eed5eed5eed",
        "cohort_folder": "../../cohorts/virtual",
        "ways": ways_table(config, {}).to_dict("records"),
    }
    keys = {run: f"key{run}" for run in config.pretraining}
    for file, value in {"budgets": budgets, "facts": facts, "pretrained": keys}.items():
        (folder / f"{file}.json").write_text(json.dumps(value))
    logs = histories()
    for run, key in keys.items():
        place = workspace / "encoders" / key
        place.mkdir(parents=True, exist_ok=True)
        logs[run].to_json(place / "history.jsonl", orient="records", lines=True)
        identity = {"task": run, "steps": 800, "batch": 64, "encoder": "small", "view": {"size": 64}}
        about = {"identity": identity, "floor": {"loss": 6.0}, "cohort": "virtual", "status": "finished"}
        (place / "run.json").write_text(json.dumps(about))
    rng = np.random.default_rng(0)
    jobs = []
    for arm, skill in SKILL.items():
        for k, budget in enumerate(config.budgets):
            for draw in range(draws):
                job = Job(f"{arm}-{budget}-{draw}", arm, budget, draw, draw, "32", ())
                rows = _evidence(job, skill * (0.6 + 0.5 * k), test_units, rng)
                rows.to_parquet(folder / "results" / f"{job.key}.parquet", index=False)
                jobs.append(job)
    index = Index(folder)
    index.plan(jobs, {job.key for job in jobs})
    index.close()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return folder


def _evidence(job: Any, skill: float, test_units: int, rng: np.random.Generator) -> pd.DataFrame:
    truth = np.arange(test_units) % 2
    logit = skill * (2 * truth - 1) + rng.normal(0, 1.5, test_units)
    score = 1 / (1 + np.exp(-logit))
    rows = []
    for i in range(test_units):
        for cls, positive in (("lesion", True), ("none", False)):
            is_it = int(truth[i] == 1) if positive else int(truth[i] == 0)
            value = score[i] if positive else 1 - score[i]
            rows.append((f"u{i:03}", f"p{i * 3 // 4:03}", cls, is_it, value))
    frame = pd.DataFrame(rows, columns=["unit", "patient", "cls", "truth", "score"])
    about = {"job": job.key, "cohort": "virtual", "arm": job.arm, "budget": str(job.budget), "draw": job.draw}
    return frame.assign(**about, seed=job.seed, split="test", target="lesion")


def write_cohort(workspace: Path, name: str = "virtual", volumes: int = 2, images: int = 30) -> Any:
    """A small cohort, written scan by scan as `medssl ingest` leaves it: CT volumes, the first with a mask, and images
    of two classes of which the first seems to hold text."""
    from medssl.cohort import Cohort, catalog
    from medssl.cohort.arrays import content_hash, write_array

    made, rng = Cohort.create(workspace / "cohorts" / name), np.random.default_rng(0)
    for i in range(volumes + images):
        volume = i < volumes
        array = rng.integers(-900, 900, (6, 24, 20)).astype(np.int16) if volume else _shades(rng)
        content = content_hash(array)
        scan = f"s{content[:16]}"
        write_array(made.path, scan, array)
        if volume and i == 0:
            mask = np.zeros(array.shape, np.uint8)
            mask[2:4, 8:16, 6:14] = 1
            write_array(made.path, scan, mask, "mask")
        quantiles = {str(q): float(np.percentile(array, q)) for q in (0.5, 5, 50, 95, 99.5)}
        row = {
            "scan": scan, "patient": f"p{i // 2:016x}", "grp": None, "exam": f"e{i:016x}", "series": f"r{i:016x}",
            "modality": "CT" if volume else "DX", "vendor": "GE" if i % 2 else "Siemens", "body_part": "chest",
            "kind": "volume" if volume else "image", "shape": list(array.shape), "dtype": array.dtype.name,
            "spacing": [5.0, 1.0, 1.0] if volume else None, "affine": np.diag([1.0, 1.0, 5.0, 1.0]).tolist() if volume
            else None, "unit": "HU" if volume else "a.u.", "percentiles": quantiles, "content_hash": content,
            "source": "", "patient_from": "id",
        }  # fmt: skip
        text = [("burned_in_pixels", "warning", "The pixels seem to hold lines of text.", "Look at it.")]
        labels = {} if volume else {"finding": ("none", "nodule")[i % 2], "note": f"seen on 12.03.2019 by reader {i}"}
        with catalog.writing(made.path) as db:
            catalog.put_scan(db, row, findings=text if i == volumes else [], labels=labels)
            catalog.put_file(db, f"f{i}", "accepted", "", scan, 1, 1)
    return made


def _shades(rng: np.random.Generator) -> np.ndarray:
    """A smooth picture, unlike any other."""
    return np.kron(rng.integers(0, 255, (4, 5)), np.ones((8, 8))).astype(np.uint8)


def predictor(
    temperature: float = 1.0,
    encoder: Any = None,
    familiar: Any = None,
    view: Any = None,
    known: Any = None,
    budget: int | str = "all",
    every: bool = False,
) -> Any:
    """The arm `pixels` of `write_experiment`, taken away: `bright` where a 32-pixel image is brighter than middle gray,
    else `dark`. With another encoder its classes mean nothing."""
    from medssl.config import Target, View
    from medssl.experiment.predictor import Predictor
    from medssl.experiment.predictor.about import About, Calibration, Labels
    from medssl.experiment.predictor.known import Known
    from medssl.transfer.fitted import Fitted
    from medssl.transfer.heads import LinearHead

    width = 256 if encoder is None else encoder.embed_dim
    slope = np.full((1, width), 20.0 / width, np.float32)
    head = LinearHead(np.concatenate([slope, -slope]), np.array([-10.0, 10.0], np.float32))
    about = About(
        experiment="synthetic",
        arm="pixels",
        target=Target(name="light", unit="image"),
        classes=["bright", "dark"],
        view=view or View(size=32),
        encoder="pixels" if encoder is None else encoder.name,
        head="linear",
        recipe={"arm": {"strategy": "probe"}, "pretraining": None, "encoder": "pixels"},
        calibration=Calibration(temperature=temperature, units=40, rule="Made up."),
        cohort={"name": "virtual", "hash": "c0ffee12c0ffee12"},
        labels=Labels(budget=budget, draw=0, every=every, units=80, patients=60, job=None),
        versions={"medssl": "0"},
        revision="0",
    )
    usual = Known(
        scans=80,
        patients=60,
        modality={"unknown": 80},
        kind={"image": 80},
        unit={"a.u.": 80},
        spacing=None,
        ranges={"a.u.": (0.0, 255.0)},
        oriented=True,
    )
    return Predictor(about, known or usual, Fitted(head, encoder), familiar)
