"""How close the whole pretraining loop comes to what the hardware can do.

    python benchmarks/pretrain_speed.py [--json] [--quick]

The limit is forward, loss, backward and optimizer, head included, on one fixed batch of views that lies on the device
at the same precision: no samples, no views, no log, no clipping. The loop is `medssl.training.fit` as a user runs it.
Both run in turns, and the ratio is that of the medians. Scans: kermany_cxr at MEDSSL_DATA or ../shared/data, else
generated ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from medssl import config
from medssl.augment import RowGenerator
from medssl.cohort import Cohort
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.ingest import ingest
from medssl.pretext import task_class
from medssl.pretext.simclr import nt_xent
from medssl.training import fit, rules
from medssl.training.feed import Feed
from medssl.workspace import Workspace, data_folder

BATCH, SIZE = 128, 64
AT_LEAST = {"small_64_vs_limit": 0.80}
MODALITY = "XR"  # whose preset has the full set of views, blur included


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    options = parser.parse_args()
    rounds, steps = (3, 6) if options.quick else (7, 8)
    with tempfile.TemporaryDirectory() as folder:
        samples = load_samples(Path(folder))
        rows = [compare("small", samples, Path(folder), rounds, steps)]
    checks = [
        {
            "name": f"{row['encoder']}_{SIZE}_vs_limit",
            "value": row["ratio"],
            "at_least": AT_LEAST[f"{row['encoder']}_{SIZE}_vs_limit"],
        }
        for row in rows
    ]
    machine = {
        "processor": platform.machine(),
        "cores": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "precision": rows[0]["precision"],
        "torch": str(torch.__version__),
    }
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows), "", *(sentence(check) for check in checks), sep="\n")
    return 0 if all(check["value"] >= check["at_least"] for check in checks) else 1


def compare(encoder: str, samples, folder: Path, rounds: int, steps: int) -> dict:
    """Median images a second of limit and loop, run in turns so that a busy machine slows both."""
    limit, precision = limit_of(encoder, samples)
    limit(2)
    speeds: dict[str, list[float]] = {"limit": [], "loop": []}
    for number in range(-1, rounds):
        start = time.perf_counter()
        limit(steps)
        fixed = steps * BATCH / (time.perf_counter() - start)
        whole = fit(
            samples, "simclr", out=folder / f"run{number}", encoder=encoder, steps=steps, batch=BATCH, modality=MODALITY
        ).images_per_second
        if number >= 0:  # the round before is for warming up
            speeds["limit"].append(fixed)
            speeds["loop"].append(whole)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "encoder": encoder,
        "size": SIZE,
        "batch": BATCH,
        "precision": precision,
        "limit_images_per_second": round(medians["limit"], 1),
        "loop_images_per_second": round(medians["loop"], 1),
        "ratio": round(medians["loop"] / medians["limit"], 3),
        "rounds": rounds,
    }


def limit_of(encoder: str, samples):
    """A function that trains for n steps on one fixed batch of views, and the precision that it uses."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = rules.resolve_precision("auto", device)
    settings = config.settings_for("task", "simclr", {})
    kind = task_class("simclr")
    task = kind(create_encoder(encoder), settings, samples.view, MODALITY).to(device, memory_format=torch.channels_last)
    task.train()
    optimizer = task.optimizers(1e-3)[0]
    feed = Feed(samples.images, samples.table, np.arange(len(samples.images)), BATCH, 0, device)
    batch = feed(0)
    views = task.inputs(batch, RowGenerator(0, 0, batch.rows)).contiguous(memory_format=torch.channels_last)

    def limit(steps: int) -> None:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                z = task.projection(task.encoder.embed(views))
            loss, _ = nt_xent(*z.float().chunk(2), settings.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        float(loss.detach())  # waits for the device

    return limit, precision


def load_samples(folder: Path):
    """Real X-rays where they are, generated images of the same size and number otherwise."""
    data = data_folder()
    if data is not None and (data / "kermany_cxr").is_dir():
        workspace = Workspace(folder / "workspace")
        ingest([data / "kermany_cxr"], workspace.cohort("kermany_cxr"), workspace=workspace)
        return Cohort.open(workspace.cohort("kermany_cxr")).samples(View(size=SIZE))
    print("no real scans found: generated images", file=sys.stderr)
    count = 2050
    images = np.random.default_rng(0).integers(0, 256, (count, 1, SIZE, SIZE), dtype=np.uint8)
    names = [f"s{i}" for i in range(count)]
    frame = pd.DataFrame({"scan": names, "exam": names, "patient": names, "position_mm": np.nan})
    return SimpleNamespace(images=images, table=frame, view=View(size=SIZE), key="generated")


def table(rows: list[dict]) -> str:
    lines = [
        "| encoder | size | batch | precision | limit, images/s | loop, images/s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        "| {encoder} | {size} | {batch} | {precision} | {limit_images_per_second:.0f} | "
        "{loop_images_per_second:.0f} | {ratio:.2f} |".format(**row)
        for row in rows
    ]
    return "\n".join(lines)


def sentence(check: dict) -> str:
    word = "holds" if check["value"] >= check["at_least"] else "FAILS"
    return f"{check['name']} = {check['value']:.2f}, at least {check['at_least']:.2f}: {word}"


if __name__ == "__main__":
    sys.exit(main())
