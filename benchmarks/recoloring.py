"""Colorization judged as its papers do (Zhang 2016, section 3.1): what a classifier that was trained on real colours
makes of recolored images, beside what it makes of the same images in their own colours and in gray.

    python benchmarks/recoloring.py            # cells of bccd, both forms of the task
    python benchmarks/recoloring.py --quick    # few steps: that it runs

Nothing is tuned here, and there is no bound: the check is that recolored images are judged no worse than gray ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medssl.augment import RowGenerator, Views, make_view
from medssl.config import load_experiment
from medssl.encoders import create_encoder, embed_all, load_checkpoint
from medssl.errors import UserError
from medssl.experiment.plan import Plan, make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.ingest.crops import cut_crops
from medssl.pretext import task_class
from medssl.pretext.colorization import Colorization, lightness
from medssl.training import pretrain
from medssl.workspace import Workspace, data_folder

FORMS = ("ab", "hypercolumn")
VIEWS = Views(crop=(0.6, 1.0), rotation=180, flip=True, flip_vertical=True)  # the classifier's; they change no colour
REPLICATES = 2000


def judge(
    images: np.ndarray, truth: np.ndarray, versions: dict[str, np.ndarray], steps: int = 300, seed: int = 0
) -> dict[str, np.ndarray]:
    """Train a classifier on images in their own colours, and let it name the class of every version of others.

    Args:
        images: (N, 3, H, W) uint8, `truth` (N,) their classes, counted from 0; each class is met equally often.
        versions: by name, (M, 3, H, W) uint8 each: real, gray, recolored.
        steps: of 64 images.

    Returns:
        (M,) classes by the name of the version.
    """
    encoder = create_encoder("small", 2, 3, seed=seed).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(encoder.embed_dim, int(truth.max()) + 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(truth == c) for c in range(head.out_features)]
    for step in range(steps):
        rows = np.array([rng.choice(members[k % len(members)]) for k in range(64)])
        x = make_view(to_unit(images[rows]), VIEWS, RowGenerator(seed, step, torch.arange(64)))
        loss = torch.nn.functional.cross_entropy(head(encoder.embed(x)), torch.from_numpy(truth[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    encoder.eval()
    with torch.inference_mode():
        return {name: head(torch.from_numpy(embed_all(encoder, x))).argmax(1).numpy() for name, x in versions.items()}


def recolored(task: Colorization, images: np.ndarray) -> np.ndarray:
    """(N, 3, H, W) uint8 in the colours that the network gives them."""
    task.eval()
    parts = [task.recolored(to_unit(images[k : k + 64])) for k in range(0, len(images), 64)]
    return to_bytes(torch.cat(parts))


def load_task(checkpoint: Path, form: str, plan: Plan) -> Colorization:
    """The task as it was when its pretraining ended."""
    loaded = load_checkpoint(checkpoint)
    kind = task_class("colorization")
    task = kind(loaded.encoder, kind.Settings(form=form), plan.config.view)  # type: ignore[call-arg]
    assert isinstance(task, Colorization)
    task.reader.load_state_dict(loaded.heads["reader"])
    return task


def macro_accuracy(said: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Mean over classes of the share that was named rightly."""
    right = [np.average((said == c)[truth == c], weights=weights[truth == c]) for c in np.unique(truth)]
    return float(np.mean(right))


def intervals(said: dict[str, np.ndarray], truth: np.ndarray, patients: np.ndarray) -> list[dict]:
    """Macro accuracy of each version and its difference to gray, with 95 % bootstrap intervals over patients."""
    names, owner = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = [
        np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[owner] for _ in range(REPLICATES)
    ]
    usable = [w.astype(float) for w in drawn if all(w[truth == c].sum() for c in np.unique(truth))]
    rows = []
    for name, answers in said.items():
        replicates = np.array([[macro_accuracy(x, truth, w) for x in (answers, said["gray"])] for w in usable])
        one = np.ones(len(truth))
        score = macro_accuracy(answers, truth, one)
        gain = score - macro_accuracy(said["gray"], truth, one)
        low, high = np.percentile(replicates[:, 0], [2.5, 97.5])
        under, over = np.percentile(replicates[:, 0] - replicates[:, 1], [2.5, 97.5])
        rows.append(
            {
                "version": name,
                "accuracy": round(score, 4),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
                "over_gray": round(gain, 4),
                "over_gray_low": round(float(under), 4),
                "over_gray_high": round(float(over), 4),
            }
        )
    return rows


def measure(workspace: Workspace, steps: int, judged_steps: int) -> list[dict]:
    """Test patients are kept out of pretraining and out of the classifier."""
    data = data_folder()
    if data is None or not (data / "bccd").is_dir():
        raise UserError("the smears of bccd are not there", "bccd", "Set MEDSSL_DATA to the folder that holds bccd.")
    config = load_experiment("bccd")
    source = workspace.path / "sources" / config.cohort.source
    if not source.exists():
        cut_crops(data / "bccd", source)
    plan = make_plan(config, ensure_cohort(config.cohort, workspace))
    samples = plan.cohort.samples(config.view)
    units = samples.table.merge(plan.units[["unit", "label", "part"]], left_on="scan", right_on="unit")
    assert len(units) == len(samples)
    truth = np.unique(units["label"], return_inverse=True)[1]
    test = (units["part"] == "test").to_numpy()
    pool = np.flatnonzero((units["part"] == "pool").to_numpy())
    real = np.array(samples.images[test])
    versions = {
        "real": real,
        "gray": to_bytes(torch.cat([lightness(to_unit(part)) for part in np.array_split(real, 8)])),
    }
    for form in FORMS:
        done = pretrain(
            plan.cohort,
            "colorization",
            out=workspace.path / "encoders" / f"recoloring-{form}-{steps}",
            view=config.view,
            settings={"preset": "microscopy", "form": form},
            exclude=frozenset(plan.split.test),
            steps=steps,
            batch=128,
        )
        versions[f"recolored, {form}"] = recolored(load_task(done.checkpoint, form, plan), real)
    said = judge(np.array(samples.images[pool]), truth[pool], versions, judged_steps)
    return intervals(said, truth[test], units["patient"].to_numpy()[test])


def to_unit(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 255


def to_bytes(images: Tensor) -> np.ndarray:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workspace", type=Path, help="Keeps cohort and encoders for the next run.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        rows = measure(Workspace(options.workspace or Path(fresh)), *((20, 30) if options.quick else (250, 300)))
    worst = min(row["over_gray_high"] for row in rows if row["version"].startswith("recolored"))
    checks = [{"name": "recolored_not_below_gray", "value": worst, "at_least": 0.0}]
    machine = {"system": platform.platform(), "threads": torch.get_num_threads()}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| version | macro accuracy | 95 % | over gray | 95 % |\n|---|---|---|---|---|")
        for row in rows:
            gain = "{over_gray:+} | {over_gray_low} to {over_gray_high}".format(**row)
            print("| {version} | {accuracy} | {low} to {high} | ".format(**row) + f"{gain} |")
    return 0 if options.quick or worst >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
