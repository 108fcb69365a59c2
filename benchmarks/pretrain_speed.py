"""How close the pretraining engine comes to what the hardware can do, and how far it is from its peers.

    python benchmarks/pretrain_speed.py [--json] [--quick] [--only NAME ...]

The limit is forward, loss, backward and optimizer, head included, on one fixed batch of views that lies on the device
at the same precision: no samples, no views, no log, no clipping. The loop is `medssl.training.fit` as a user runs it.
All sides run in turns, and a ratio is that of the medians. Scans: kermany_cxr and hippocampus at MEDSSL_DATA or
../shared/data, else generated ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import torch
from pretrain_bench import BATCH, MODALITY, SIZE, Bench
from pretrain_peers import READY, Lightly, monai_views

from medssl.augment import RowGenerator, make_view, preset
from medssl.config import View
from medssl.encoders import embed_all
from medssl.metrics import macro_auc
from medssl.training import Engine, fit, rules
from medssl.training.loop import Loop
from medssl.training.plan import Request
from medssl.training.run import make_fabric
from medssl.training.state import save_state

NO_BLUR = {"views": {"blur": 0}}
BF16 = rules.resolve_precision("auto", torch.device("cpu"), 2) == "bf16" or torch.cuda.is_available()
AT_LEAST = {
    "resnet18_64_vs_limit": 0.90,
    "resnet10t_64_vs_limit": 0.90,
    "small_64_vs_limit": 0.83,
    "resnet10_3d_48_vs_limit": 0.70,
    "resnet18_64_vs_lightly": 1.7,
    "resnet18_64_vs_lightly_bf16": 1.3,
    "resnet10t_64_vs_lightly": 1.95,
    "resnet10t_64_vs_lightly_bf16": 1.4,
    "feed_2d_vs_monai": 3.0,
    "feed_3d_48_vs_monai": 1.5,
}
AT_MOST = {"time_to_quality_vs_lightly": 0.6, "checkpoint_share": 0.01, "memory_growth_mib": 50.0}
NEEDS_BF16 = [name for name in AT_LEAST if "lightly" in name]


def vs_limit(bench: Bench, name: str, encoder: str, dims: int = 2, settings: dict | None = None) -> list[dict]:
    sides = {"limit": bench.limit(encoder, dims, settings), "loop": bench.loop(encoder, dims, settings)}
    speeds = bench.turns(sides)
    return [{"name": name, **speeds, "value": round(speeds["loop"] / speeds["limit"], 3)}]


def vs_lightly(bench: Bench, encoder: str) -> list[dict]:
    images, batch = bench.samples(2).images, BATCH

    def peer(precision: str) -> Callable[[], float]:
        lightly = Lightly(images, encoder, precision, batch)
        return lambda: bench.steps * batch / lightly.train(bench.steps, READY)

    sides = {"loop": bench.loop(encoder), "lightly": peer("32-true"), "lightly_bf16": peer("bf16-mixed")}
    speeds = bench.turns(sides)
    return [
        {"name": f"{encoder}_64_vs_{side}", **speeds, "value": round(speeds["loop"] / speeds[side], 3)}
        for side in ("lightly", "lightly_bf16")
    ]


def feed_vs_monai(bench: Bench, dims: int) -> list[dict]:
    """Views a second alone: two of each image, the preset's full set (without blur in 3-D)."""
    samples, count = bench.samples(dims), 2 if dims == 3 else bench.steps
    batch = BATCH if dims == 2 else 32
    plan = preset(MODALITY).views.model_copy(update={"blur": 0.0} if dims == 3 else {})
    feed = bench.request("small", dims, batch=batch).loop(1).feed
    monai = monai_views(np.asarray(samples.images), dims, batch)

    def ours() -> float:
        begun = time.perf_counter()
        for step in range(count):
            held = feed(step)
            draws = RowGenerator(0, step, held.rows)
            for _ in range(2):
                make_view(held.images, plan, draws)
        return 2 * count * batch / (time.perf_counter() - begun)

    def theirs() -> float:
        return 2 * count * batch / monai(count)

    speeds = bench.turns({"ours": ours, "monai": theirs})
    name = "feed_2d_vs_monai" if dims == 2 else "feed_3d_48_vs_monai"
    return [{"name": name, **speeds, "value": round(speeds["ours"] / speeds["monai"], 3)}]


def time_to_quality(bench: Bench, encoder: str = "resnet10t") -> list[dict]:
    """Seconds of training until the kNN macro AUC on validation patients that lightly has after 20 epochs."""
    samples = bench.samples(2)
    if not hasattr(samples, "labels"):
        return [{"name": "time_to_quality_vs_lightly", "skipped": "needs kermany_cxr with its labels"}]
    epochs, seeds = (2, 1) if bench.quick else (20, 3)
    pool, ratios, rows = np.flatnonzero(samples.part == "pool"), [], {}
    pixels = np.ascontiguousarray(samples.images[pool])
    train = SimpleNamespace(images=pixels, table=samples.table.iloc[pool], view=samples.view, key="pool")
    per_epoch = len(pool) // BATCH
    for seed in range(seeds):
        lightly = Lightly(pixels, encoder, "32-true", BATCH, seed)
        theirs = lightly.train(epochs * per_epoch)
        goal = knn_auc(lightly.network, samples)
        engine = {"encoder": encoder, "batch": BATCH, "seed": seed}
        loop = Request(train, "simclr", {}, frozenset(), MODALITY, engine, make_fabric).loop(epochs * per_epoch)
        ours, best = 0.0, 0.0
        for epoch in range(epochs):
            begun = time.perf_counter()
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                loop.step(step)
            ours += time.perf_counter() - begun
            best = max(best, knn_auc(loop.task.encoder, samples))
            if best >= goal:
                break
        ratios.append(ours / theirs if best >= goal else float("inf"))
        rows[f"seed{seed}"] = f"{ours:.0f} s to {best:.3f}, lightly {theirs:.0f} s to {goal:.3f}"
    value = statistics.median(ratios)
    return [{"name": "time_to_quality_vs_lightly", **rows, "value": round(value, 3) if value < 99 else 99.0}]


def knn_auc(network: torch.nn.Module, samples) -> float:
    """Macro AUC on validation images of a vote of their 20 nearest images in the pool."""
    if hasattr(network, "embed"):
        features = embed_all(network, samples.images)
    else:
        network.eval()
        with torch.inference_mode():
            parts = np.array_split(np.asarray(samples.images), 16)
            whole = [network((torch.from_numpy(np.array(p)).float() / 255 - 0.5) / 0.25) for p in parts]
        features = torch.cat(whole).numpy()
        network.train()
    unit = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    bank, asked = samples.part == "pool", samples.part == "validation"
    truth = torch.from_numpy(samples.labels)
    near, index = (unit[asked] @ unit[bank].T).topk(20)
    votes = torch.nn.functional.one_hot(truth[bank])[index] * torch.exp(near / 0.07)[:, :, None]
    scores = (votes.sum(1) / votes.sum((1, 2))[:, None]).numpy().astype(float)
    return float(macro_auc(samples.labels[asked], scores[None], np.ones((1, int(asked.sum()))))[0, 0])


def checkpoint_share(bench: Bench) -> list[dict]:
    """Seconds that saving the state of resnet18 takes, as a share of the two minutes between two savings."""
    loop = bench.request("resnet18").loop(10)
    loop.step(0)
    seconds = []
    for step in range(5):
        begun = time.perf_counter()
        save_state(bench.folder / "state", loop.task, loop.optimizers, {"step": step})
        seconds.append(time.perf_counter() - begun)
    took = statistics.median(seconds)
    share = took / (60 * Engine().checkpoint_minutes)
    return [{"name": "checkpoint_share", "seconds": round(took, 4), "value": round(share, 5)}]


def memory_growth(bench: Bench) -> list[dict]:
    """MiB that the process grows over 1,000 steps of a whole run, states saved on the way."""
    steps = 100 if bench.quick else 1000
    images = np.ascontiguousarray(bench.samples(2).images[:, :, ::2, ::2])
    small = SimpleNamespace(images=images, table=bench.samples(2).table, view=View(size=SIZE // 2), key="half")
    held, line = [], Loop.line

    def note(self, done, *rest):
        held.append((done, psutil.Process().memory_info().rss))
        return line(self, done, *rest)

    Loop.line = note
    try:
        fit(small, "simclr", out=bench.folder / "memory", steps=steps + 50, batch=32, checkpoint_every=50)
    finally:
        Loop.line = line
    first = next(size for done, size in held if done >= 50)
    growth = (held[-1][1] - first) / 2**20
    return [{"name": "memory_growth_mib", "steps": steps, "value": round(growth, 1)}]


PARTS: dict[str, tuple[list[str], Callable[[Bench], list[dict]]]] = {
    "resnet18": (["resnet18_64_vs_limit"], lambda b: vs_limit(b, "resnet18_64_vs_limit", "resnet18")),
    "resnet10t": (["resnet10t_64_vs_limit"], lambda b: vs_limit(b, "resnet10t_64_vs_limit", "resnet10t")),
    "small": (["small_64_vs_limit"], lambda b: vs_limit(b, "small_64_vs_limit", "small")),
    "resnet10_3d": (["resnet10_3d_48_vs_limit"], lambda b: vs_limit(b, "resnet10_3d_48_vs_limit", "small", 3, NO_BLUR)),
    "lightly18": (["resnet18_64_vs_lightly", "resnet18_64_vs_lightly_bf16"], lambda b: vs_lightly(b, "resnet18")),
    "lightly10": (["resnet10t_64_vs_lightly", "resnet10t_64_vs_lightly_bf16"], lambda b: vs_lightly(b, "resnet10t")),
    "feed_2d": (["feed_2d_vs_monai"], lambda b: feed_vs_monai(b, 2)),
    "feed_3d": (["feed_3d_48_vs_monai"], lambda b: feed_vs_monai(b, 3)),
    "quality": (["time_to_quality_vs_lightly"], time_to_quality),
    "checkpoint": (["checkpoint_share"], checkpoint_share),
    "memory": (["memory_growth_mib"], memory_growth),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    names = [name for checks, _ in PARTS.values() for name in checks]
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=names, default=names, help="of: " + ", ".join(names)
    )
    options = parser.parse_args()
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.quick)
        for checks, part in PARTS.values():
            wanted = [name for name in checks if name in options.only]
            if wanted and not BF16 and wanted[0] in NEEDS_BF16:
                rows += [{"name": name, "skipped": "no hardware bf16"} for name in wanted]
            elif wanted:
                rows += [row for row in part(bench) if row["name"] in wanted]
                print(sentence(rows[-1]), file=sys.stderr)
    machine = {
        "processor": platform.machine(),
        "cores": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "precision": "bf16" if BF16 else "32",
        "torch": str(torch.__version__),
    }
    checks = [
        {"name": r["name"], **{k: r[k] for k in ("value", "skipped") if k in r}, **bound(r["name"])} for r in rows
    ]
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print("| check | value | bound | figures |\n|---|---|---|---|", *(line(row) for row in rows), sep="\n")
    return 0 if all(holds(row) for row in rows) else 1


def bound(name: str) -> dict[str, float]:
    return {"at_least": AT_LEAST[name]} if name in AT_LEAST else {"at_most": AT_MOST[name]}


def holds(row: dict) -> bool:
    if "skipped" in row:
        return True
    name, value = row["name"], row["value"]
    return value >= AT_LEAST[name] if name in AT_LEAST else value <= AT_MOST[name]


def sentence(row: dict) -> str:
    if "skipped" in row:
        return f"{row['name']}: skipped, {row['skipped']}"
    (word, limit), *_ = bound(row["name"]).items()
    verdict = "holds" if holds(row) else "FAILS"
    return f"{row['name']} = {row['value']:g}, {word.replace('_', ' ')} {limit:g}: {verdict}"


def line(row: dict) -> str:
    figures = ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("name", "value", "skipped"))
    (word, limit), *_ = bound(row["name"]).items()
    mark = "" if holds(row) else " **FAILS**"
    return f"| {row['name']} | {row.get('value', 'skipped')}{mark} | {word.replace('_', ' ')} {limit:g} | {figures} |"


if __name__ == "__main__":
    sys.exit(main())
