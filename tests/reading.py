"""A workspace with a cohort of made-up images and trained encoders, shared by the tests of reader tests and the app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIZE = 36


def add_cohort(workspace: Any, name: str = "toys", patients: int = 24) -> Any:
    """Images that are bright above and dark below, each with a bar of its own; one a patient."""
    from medssl.cohort import Cohort, catalog
    from medssl.cohort.arrays import content_hash, write_array

    made = Cohort.create(workspace.cohort(name))
    rng = np.random.default_rng(0)
    for patient in range(patients):
        image = np.linspace(220, 20, SIZE)[:, None] + np.zeros(SIZE)
        left, top = rng.integers(2, SIZE - 12, 2)
        image[top : top + 8, left : left + 4] = 240
        pixels = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        key = content_hash(pixels)
        write_array(made.path, f"s{key[:16]}", pixels)
        row = {
            "scan": f"s{key[:16]}", "patient": f"p{patient:02}", "grp": None, "exam": f"e{patient}",
            "series": f"r{patient}", "modality": "CR", "vendor": "other", "body_part": "chest", "kind": "image",
            "shape": [SIZE, SIZE], "dtype": "uint8", "spacing": None, "affine": None, "unit": "a.u.",
            "percentiles": {"0.5": 0.0, "99.5": 255.0}, "content_hash": key, "source": "", "patient_from": "file",
        }  # fmt: skip
        with catalog.writing(made.path) as db:
            catalog.put_scan(db, row)
    return Cohort.open(made.path)


def add_encoder(workspace: Any, cohort: Any, task: str, steps: int = 4, name: str = "", **options: Any) -> Path:
    """A finished run under `encoders/`; the last eight patients are kept out."""
    from medssl.config import View
    from medssl.training import pretrain

    out = workspace.encoder(name or f"{cohort.name}-{task}")
    kept_out = frozenset(f"p{n:02}" for n in range(16, 24))
    pretrain(cohort, task, out=out, view=View(size=SIZE), exclude=kept_out, steps=steps, batch=8, **options)
    return out
