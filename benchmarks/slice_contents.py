"""Do the tasks that learn from the order of slices help to say what a slice contains?

    python benchmarks/slice_contents.py [--tasks NAME[:KEY=VALUE...] ...] [--steps 300] [--validation] [--out FOLDER]
                                        [--json] [--quick]

Axial slices of hippocampus at 64 px, labeled by their masks (neither, anterior, posterior, both), split by patient.
Each task pretrains `small` on the slices of the pool; a frozen probe then learns from 10 slices a class, over 10 draws,
and is scored on the test patients (with --validation on the validation patients: settings are tuned that way). Compared
with random features of the same encoder, and with raw pixels; paired intervals are those of the protocol. What is
pretrained is kept in --out and not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import yaml

from medssl.cohort import Cohort
from medssl.cohort.budgets import draw_budgets
from medssl.cohort.contents import slice_contents
from medssl.cohort.splits import split_patients, tied_patients
from medssl.config import Fractions, Source, View
from medssl.encoders import create_encoder, embed_all, load_checkpoint
from medssl.experiment.prepare import ensure_cohort
from medssl.statistics import Replicates, arrange, differences, scores
from medssl.training import fit
from medssl.transfer import pixel_features
from medssl.transfer.features import standardise
from medssl.transfer.targets.classification import Classification
from medssl.workspace import Workspace, digest

TASKS = ["slice_sorting", "slice_verification", "slice_contrast", "simclr"]
SOURCE = Source(name="hippocampus", source="hippocampus")
BUDGET, DRAWS, PENALTY, BATCH, REPLICATES = 10, 10, 0.2, 64, 2000


class Slices:
    """Samples, their labels, and who is in which part."""

    def __init__(self, cohort: Cohort) -> None:
        self.samples = cohort.samples(View())
        self.units = slice_contents(cohort, self.samples)
        ties = tied_patients(cohort.scans(), cohort.near_duplicates())
        labels = self.units[["patient"]].drop_duplicates().assign(label="masked")
        self.split = split_patients(ties.merge(labels, on="patient"), Fractions(test=0.4, validation=0.15))
        self.units["part"] = self.units["patient"].map(self.split.part_of())
        pool = self.units[self.units["part"] == "pool"]
        self.budgets = draw_budgets(pool, [BUDGET], "class", DRAWS, 0)

    def predict(self, features: np.ndarray, part: str) -> np.ndarray:
        """(draws, units of the part, classes): log odds of a linear probe on the labeled slices of each draw."""
        target = Classification(self.units["label"].tolist())
        number = {unit: row for row, unit in enumerate(self.units["unit"])}
        pool, scored = (np.flatnonzero(self.units["part"] == name) for name in ("pool", part))
        scaled, out = standardise(features, pool), []
        for draw in range(DRAWS):
            rows = [number[unit] for unit in self.budgets[draw][BUDGET]]
            truth = target.encode(self.units["label"].iloc[rows].tolist())
            out.append(target.fit_linear(scaled[rows], truth, PENALTY * scaled.shape[1])(scaled[scored]))
        return np.stack(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="NAME or NAME:KEY=VALUE:KEY=VALUE")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("medssl_workspace"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="10 steps a task: whether it runs, and no more")
    options = parser.parse_args()
    part = "validation" if options.validation else "test"
    workspace = Workspace(options.out)
    slices = Slices(ensure_cohort(SOURCE, workspace))
    steps = 10 if options.quick else options.steps
    features = {"pixels": pixel_features(slices.samples.images), "random": embedded(slices, create_encoder("small", 2))}
    about: dict[str, dict] = {"pixels": {}, "random": {}}
    for spec in options.tasks:
        features[spec], about[spec] = pretrained(slices, spec, steps, options.out)
        print(f"{spec}: {about[spec]}", file=sys.stderr)
    rows = table(slices, features, part)
    for row in rows:
        row |= about[row["arm"]]
    checks = [
        {"name": f"{row['arm']}_over_random_low", "value": row["low"], "at_least": 0.0}
        for row in rows
        if row["arm"] in options.tasks and not options.quick
    ]
    checks = [check for check in checks if not check["name"].startswith("simclr")]  # the reference
    if options.json:
        machine = {"cpu": platform.processor() or platform.machine(), "threads": os.cpu_count()}
        print(json.dumps({"checks": checks, "rows": rows, "part": part, "steps": steps, "machine": machine}))
    else:
        print(markdown(rows, part))
    return int(any(check["value"] < check["at_least"] for check in checks))


def pretrained(slices: Slices, spec: str, steps: int, out: Path) -> tuple[np.ndarray, dict]:
    """Features of all slices after pretraining on those of the pool, and how the task itself went."""
    name, _, text = spec.partition(":")
    settings = {key: yaml.safe_load(value) for key, _, value in (p.partition("=") for p in text.split(":") if p)}
    folder = out / "slice_contents" / f"{name}-{digest([settings, steps, slices.split.hash, slices.samples.key], 10)}"
    held_out = frozenset(slices.split.test) | frozenset(slices.split.validation)
    run = fit(
        slices.samples, name, out=folder, settings=settings, exclude=held_out, modality="MR", steps=steps, batch=BATCH
    )
    last = run.history.tail(10)
    found = {
        "accuracy": round(float(last["accuracy"].mean()), 4),
        "floor": round(run.floor["accuracy"], 4),
        "loss": round(float(last["loss"].mean()), 4),
        "loss_floor": round(run.floor["loss"], 4),
        "images_per_second": round(run.images_per_second, 1),
    }
    kept = folder / "features.npy"
    if not kept.is_file():
        np.save(kept, embedded(slices, load_checkpoint(run.checkpoint)[0]))
    return np.load(kept), found


def embedded(slices: Slices, encoder) -> np.ndarray:
    return embed_all(encoder, slices.samples.images)


def table(slices: Slices, features: dict[str, np.ndarray], part: str) -> list[dict]:
    """Macro AUC of each arm, and its paired difference to random features and to raw pixels."""
    target = Classification(slices.units["label"].tolist())
    units = slices.units[slices.units["part"] == part]
    logits = np.stack([slices.predict(values, part) for values in features.values()])
    shifted = np.exp(logits - logits.max(3, keepdims=True))
    probabilities = (shifted / shifted.sum(3, keepdims=True)).astype(np.float32)
    jobs = [(arm, BUDGET, draw, 0) for arm in features for draw in range(DRAWS)]
    patients = np.unique(units["patient"], return_inverse=True)[1]
    truth = target.encode(units["label"].tolist())
    flat = probabilities.reshape(-1, *probabilities.shape[2:])
    evidence = arrange(target.classes, units["unit"].to_numpy(), patients, truth, jobs, flat)
    replicates = Replicates(evidence, ["auc"], REPLICATES)
    same = {(a, b): a != "pixels" and b != "pixels" for a in features for b in features}
    against = differences(replicates, ["random", "pixels"], same)
    rows = []
    for row in scores(replicates).to_dict("records"):
        rows.append({"arm": row["arm"], "auc": round(row["score"], 4)})
        for baseline, name in (("random", ""), ("pixels", "_pixels")):
            pair = against[(against["arm"] == row["arm"]) & (against["baseline"] == baseline)]
            for key in ("difference", "low", "high"):
                rows[-1][key + name] = round(float(pair[key].iloc[0]), 4) if len(pair) else 0.0
    return rows


def markdown(rows: list[dict], part: str) -> str:
    lines = [
        f"| arm ({part} patients) | macro AUC at {BUDGET} a class | over random [95 %] | over pixels [95 %] | pretext "
        "accuracy (floor) | images/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        gains = [
            f"{row['difference' + key]:+.3f} [{row['low' + key]:+.3f}, {row['high' + key]:+.3f}]"
            for key in ("", "_pixels")
        ]
        own = f"{row['accuracy']:.3f} ({row['floor']:.3f})" if "accuracy" in row else "-"
        lines.append(
            f"| {row['arm']} | {row['auc']:.3f} | {' | '.join(gains)} | {own} | {row.get('images_per_second', '-')} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
