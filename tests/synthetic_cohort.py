"""A made-up cohort on disk, whose scans are the units that `synthetic.write_experiment` tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from medssl.cohort import Cohort, catalog
from medssl.cohort.arrays import content_hash, write_array

SIDE = 32


def write_cohort(workspace: Path, name: str = "virtual", scans: int = 60, scanner: bool = True) -> Cohort:
    """Gray images of four scans to three patients; every other one shows a bright lesion, with a mask.

    Args:
        scanner: half of the patients are of a vendor whose images are striped and of another spacing; else the catalog
            says nothing of scanners.
    """
    cohort = Cohort.create(workspace / "cohorts" / name)
    rng = np.random.default_rng(0)
    parts: dict[str, list[str]] = {"pool": [], "validation": [], "test": []}
    with catalog.writing(cohort.path) as db:
        for i in range(scans):
            patient = i * 3 // 4
            striped = scanner and patient % 2 == 1
            array = rng.normal(90, 12, (SIDE, SIDE)) + (30 * (np.arange(SIDE) % 4 < 2) if striped else 0)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            if i % 2 == 1:
                y, x = rng.integers(6, SIDE - 10, 2)
                mask[y : y + 5, x : x + 5] = 1
            pixels = np.clip(array + 70 * mask, 0, 255).astype(np.uint8)
            scan = f"u{i:03}"
            write_array(cohort.path, scan, pixels)
            if mask.any():
                write_array(cohort.path, scan, mask, "mask")
            words = {"patient": f"p{patient:03}", "vendor": ("GE" if striped else "Siemens") if scanner else "unknown"}
            spacing = ([0.3, 0.3] if striped else [0.2, 0.2]) if scanner else None
            _put(db, scan, pixels, **words, spacing=spacing, labels={"lesion": "lesion" if i % 2 else "none"})
            part = ("pool", "test", "pool", "validation")[patient % 4]
            parts[part] += [f"p{patient:03}"] if f"p{patient:03}" not in parts[part] else []
        catalog.note(db, "complete", "1")
    (cohort.path / "split.json").write_text(json.dumps(parts))
    return Cohort.open(cohort.path)


def write_volumes(workspace: Path, slices: tuple[int, ...] = (4, 5, 6)) -> Cohort:
    """Volumes of 16 x 16 voxels a slice and 1 mm, of a patient each, without labels."""
    cohort = Cohort.create(workspace / "cohorts" / "volumes")
    rng = np.random.default_rng(0)
    with catalog.writing(cohort.path) as db:
        for i, count in enumerate(slices):
            voxels = rng.integers(0, 255, (count, 16, 16)).astype(np.int16)
            write_array(cohort.path, f"v{i:03}", voxels)
            geometry = {"spacing": [1.0, 1.0, 1.0], "affine": np.eye(4).tolist()}
            _put(db, f"v{i:03}", voxels, patient=f"p{i:03}", kind="volume", **geometry)
    return Cohort.open(cohort.path)


def _put(db: Any, scan: str, array: np.ndarray, labels: dict[str, str] | None = None, **changes: Any) -> None:
    row = {
        "scan": scan, "patient": "p", "grp": None, "exam": f"e{scan}", "series": f"r{scan}", "modality": "US",
        "vendor": "unknown", "body_part": "breast", "kind": "image", "shape": list(array.shape),
        "dtype": array.dtype.name, "spacing": None, "affine": None, "unit": "a.u.",
        "percentiles": {"0.5": 0.0, "99.5": 255.0}, "content_hash": content_hash(array), "source": "",
        "patient_from": "file",
    } | changes  # fmt: skip
    catalog.put_scan(db, row, labels=labels)


def write_encoder(workspace: Path, key: str = "virtual-simclr-0123456789", cohort: str = "virtual") -> Path:
    """An encoder as a finished pretraining leaves it, with random weights."""
    from medssl.config import View
    from medssl.encoders import create_encoder, save_checkpoint

    folder = workspace / "encoders" / key
    view = View(size=SIDE).model_dump(mode="json")
    identity = {"task": "simclr", "encoder": "small", "steps": 800, "view": view}
    folder.mkdir(parents=True)
    save_checkpoint(folder / "checkpoint.safetensors", create_encoder("small"))
    (folder / "run.json").write_text(json.dumps({"cohort": cohort, "identity": identity}))
    (folder / "history.jsonl").write_text('{"step": 800, "loss": 1.0}\n')
    return folder
