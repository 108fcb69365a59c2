"""How well one masked slice becomes a masked volume: `slice_propagation` on hippocampus, by patients.

    python benchmarks/mask_propagation.py [--json] [--quick] [--part test] [--steps N] [--workspace FOLDER]

The middle one of the slices that show the hippocampus keeps its mask; those above and below get theirs from the slice
before. Dice is taken over all other slices together, mean of anterior and posterior part, and once more over the four
nearest slices on each side. Three ways to carry a mask: affinity of the trained features, of the same network
untrained, and the mask as it is at the same place. Trained on the pool's patients alone. Settings were chosen on the
validation patients (`--part validation`, the default); the test patients are for the figure. Intervals are of paired
differences, by a bootstrap over patients.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from medssl.cohort import Cohort, Samples
from medssl.config import View
from medssl.pretext.slice_propagation import SlicePropagation
from medssl.training import fit
from medssl.training.plan import Request
from medssl.training.run import make_fabric
from medssl.workspace import Workspace, data_folder

VIEW = View(size=64, fit="stretch")
TASK = "slice_propagation"
PARTS = {"test": slice(0, 96), "validation": slice(96, 120), "pool": slice(120, None)}  # of 240 patients
LABELS, NEAR, REPLICATES = (1, 2), 4, 2000
ARMS = ("trained", "untrained", "same place")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="20 steps, 6 patients: no figure to be quoted")
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--settings", type=json.loads, default={}, help="of the task, as JSON")
    parser.add_argument("--workspace", type=Path, help="keeps cohort and checkpoint; default: a temporary one")
    options = parser.parse_args()
    steps = 20 if options.quick else options.steps
    with tempfile.TemporaryDirectory() as folder:
        rows, dice = measure(options.workspace or Path(folder), options.part, steps, options.settings, options.quick)
    checks = [against(dice, other) for other in ARMS[1:]]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows), "", *(sentence(check) for check in checks), sep="\n")
    return 0 if all(check["value"] >= check["at_least"] for check in checks) else 1


def measure(
    folder: Path, part: str, steps: int, settings: dict, quick: bool
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows of the table, and the Dice of each arm and patient over all slices."""
    cohort = ingested(folder)
    samples = cohort.samples(VIEW)
    patients = samples.table["patient"].unique()
    shuffled = patients[np.random.default_rng(0).permutation(len(patients))]
    others = frozenset(shuffled[PARTS["test"]]) | frozenset(shuffled[PARTS["validation"]])
    about = {"exclude": others, "modality": "MR", "settings": settings}
    engine = {"steps": steps, "batch": 128}
    run = fit(samples, TASK, out=folder / "runs" / f"{TASK}_{steps}", **about, **engine)
    tasks: dict[str, SlicePropagation | None] = {
        "trained": loaded(run.checkpoint, request(samples, about, engine)),
        "untrained": request(samples, about, engine).fresh_task().eval(),
        "same place": None,
    }
    chosen = shuffled[PARTS[part]][: 6 if quick else None]
    found = [compared(cohort, samples, patient, tasks) for patient in chosen]
    kept = [x for x in found if x is not None]
    dice = {arm: np.array([x[arm] for x in kept]) for arm in ARMS}  # (patients, 2): all slices, near ones
    rows = [
        {"arm": arm, "patients": len(kept), "steps": steps if arm == "trained" else 0}
        | {"dice": round(float(d[:, 0].mean()), 4), "dice_near": round(float(d[:, 1].mean()), 4)}
        for arm, d in dice.items()
    ]
    return rows, {arm: d[:, 0] for arm, d in dice.items()}


def ingested(folder: Path) -> Cohort:
    path = folder / "cohorts" / "hippocampus"
    if not path.is_dir():
        from medssl.ingest import ingest

        data = data_folder()
        if data is None:
            raise SystemExit("no real scans: set MEDSSL_DATA")
        ingest([data / "hippocampus"], path, workspace=Workspace(folder))
    return Cohort.open(path)


def request(samples: Samples, about: dict, engine: dict) -> Request:
    return Request(samples, TASK, about["settings"], about["exclude"], about["modality"], engine, make_fabric)


def loaded(checkpoint: Path, asked: Request) -> SlicePropagation:
    """The trained task: encoder and heads of a checkpoint."""
    from safetensors.torch import load_file

    task = asked.fresh_task()
    task.load_state_dict({name.removeprefix("heads."): x for name, x in load_file(checkpoint).items()})
    assert isinstance(task, SlicePropagation)
    return task.eval()


def compared(
    cohort: Cohort, samples: Samples, patient: str, tasks: dict[str, SlicePropagation | None]
) -> dict[str, tuple[float, float]] | None:
    """Dice over all slices and over near ones of each arm; None where fewer than three slices show anything."""
    own = np.flatnonzero((samples.table["patient"] == patient).to_numpy())
    scan = samples.table["scan"].iloc[own[0]]
    own = own[(samples.table["scan"].iloc[own] == scan).to_numpy()]
    mask = cohort.mask(scan)
    if mask is None:
        return None
    truth = torch.from_numpy(np.stack([rendered(mask[k]) for k in samples.table["slice"].iloc[own]]))
    shown = truth.flatten(1).any(1).nonzero()[:, 0]
    if len(shown) < 3:
        return None
    start = int(shown[len(shown) // 2])
    images = torch.from_numpy(np.ascontiguousarray(samples.images[own])).float() / 255
    out = {}
    for arm, task in tasks.items():
        still = truth[start].expand(len(truth), -1, -1)
        said = still if task is None else task.propagate(images, truth[start], start)
        away = (torch.arange(len(truth)) - start).abs()
        out[arm] = dice(said, truth, away > 0), dice(said, truth, (away > 0) & (away <= NEAR))
    return out


def rendered(mask: np.ndarray) -> np.ndarray:
    """An axial slice of a mask (y, x) as the samples' slices lie, each pixel the nearest voxel: (size, size) int64."""
    from medssl.cohort.rendering import upright

    slice_ = upright(mask)
    at = [((np.arange(VIEW.size) + 0.5) * n / VIEW.size).astype(int) for n in slice_.shape]
    return slice_[np.ix_(*at)].astype(np.int64)


def dice(said: torch.Tensor, truth: torch.Tensor, slices: torch.Tensor) -> float:
    """Mean over labels of 2 |A and B| / (|A| + |B|) over these slices together; labels that are in neither are out."""
    found = []
    for label in LABELS:
        a, b = said[slices] == label, truth[slices] == label
        total = int(a.sum()) + int(b.sum())
        if total:
            found.append(2 * int((a & b).sum()) / total)
    return float(np.mean(found)) if found else float("nan")


def against(dice: dict[str, np.ndarray], other: str) -> dict:
    """The paired difference, with an interval; the check is its lower end."""
    gain = dice["trained"] - dice[other]
    rng = np.random.default_rng(0)
    means = gain[rng.integers(len(gain), size=(REPLICATES, len(gain)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    name = f"dice_over_{other.replace(' ', '_')}_low"
    return {"name": name, "value": round(float(low), 4), "at_least": 0.0,
            "difference": round(float(gain.mean()), 4), "high": round(float(high), 4)}  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [f"| mask carried by | patients | Dice | Dice, {NEAR} nearest slices |", "|---|---|---|---|"]
    return "\n".join(lines + ["| {arm} | {patients} | {dice:.3f} | {dice_near:.3f} |".format(**row) for row in rows])


def sentence(check: dict) -> str:
    word = "holds" if check["value"] >= check["at_least"] else "FAILS"
    interval = f"{check['difference']:+.3f} [{check['value']:+.3f}, {check['high']:+.3f}]"
    return f"{check['name'].removesuffix('_low')}: {interval}, lower end at least {check['at_least']:g}: {word}"


if __name__ == "__main__":
    sys.exit(main())
