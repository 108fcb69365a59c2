"""Every pretext task on real scans, side by side: frozen and finetuned AUC at 10 labels a class, and what it costs.

    python benchmarks/pretext_table.py [--tasks NAME ...] [--sets NAME ...] [--minutes 2] [--json] [--quick]
                                       [--imagenet] [--batch 16] [--pool 400]

A row is one task on one set: it pretrains for so many minutes (turned into steps once), and an ordinary experiment with
the arms pixels, random, scratch, ImageNet, the task's frozen probe and the finetuned task follows, 10 draws, paired
intervals of the protocol. `--imagenet` starts from ImageNet weights, which then stand in for random features; `--batch`
and `--pool` (scans to pretrain on) make the rows of the page's part on small cohorts and small batches.

Interrupted, it goes on where it was. A finished row is kept in `--results` and taken from there until the task's own
file, its settings, the encoder or what was asked changes; `code` in a row says which medssl measured it.
With the default folder `docs/pretext_tasks.md` is written anew from the rows.

`benchmarks/pretext_speed.py` says how close each task comes to what the hardware can do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pretext_code import task_code
from pretext_page import RESULTS, table, write_page
from pretext_sets import BATCH, SETS, encoder_of, held_out_volumes, sets_of

from medssl.cohort import Cohort
from medssl.config import DEFAULT_STEPS, Experiment, settings_for, validate
from medssl.errors import MedsslError
from medssl.experiment import Results, run
from medssl.experiment.plan import Plan, make_plan
from medssl.experiment.prepare import ensure_cohort
from medssl.pretext import task_class, tasks
from medssl.progress import say
from medssl.training import pretrain
from medssl.training.history import read_history
from medssl.training.plan import Request
from medssl.training.run import make_fabric, of_cohort, steps_for
from medssl.workspace import Workspace, code_revision, digest, write_json

LABELS = 10
IMAGENET = "tf_efficientnet_lite0"  # its weights come with a package
BESIDE = 1.5  # minutes that a row may take beside pretraining: some 25 rows an issue in 90 minutes
QUICK = {"draws": 3, "replicates": 200, "finetune": {"name": "finetune", "min_steps": 5, "epochs": 1}}
FULL = {"draws": 10, "replicates": 2000, "finetune": "finetune"}


@dataclass(frozen=True)
class Variant:
    """What is unlike the other rows: images a step, scans to pretrain on (None: all), start from ImageNet."""

    batch: int = BATCH
    pool: int | None = None
    imagenet: bool = False

    def __str__(self) -> str:
        """End of the row's file name."""
        batch = f"_batch{self.batch}" if self.batch != BATCH else ""
        return batch + (f"_pool{self.pool}" if self.pool else "") + ("_imagenet" if self.imagenet else "")


class Row:
    """One task on one set; `file` holds what is known of it.

    Args:
        task, place: names of the task and of the set.
        minutes: of pretraining.
        how: draws, replicates and the strategy of finetuning.
        folder: of the rows.
        variant: what is unlike other rows.
        changes: of the task's settings, for a trial.
    """

    def __init__(
        self,
        task: str,
        place: str,
        minutes: float,
        how: dict[str, Any],
        folder: Path,
        variant: Variant = Variant(),
        changes: dict[str, Any] | None = None,
    ) -> None:
        self.task, self.place, self.minutes, self.how, self.variant = task, place, minutes, how, variant
        self.settings = SETS[place].settings | (changes or {})
        kind = task_class(task)  # which also registers its settings
        self.encoder = IMAGENET if variant.imagenet else encoder_of(kind)
        self.start = "imagenet" if variant.imagenet else "random"
        self.random = "imagenet" if variant.imagenet else f"random_{self.encoder}"  # arms of the experiment
        self.scratch = "imagenet_finetune" if variant.imagenet else f"scratch_{self.encoder}"
        self.frozen, self.tuned = f"{task}{variant}", f"{task}{variant}_finetune"
        self.file = folder / f"pretext_{place}_{task}{variant}.json"
        self.what = {
            "task": task,
            "set": place,
            "settings": settings_for("task", task, self.settings).model_dump(mode="json"),
            "encoder": self.encoder,
            "minutes": minutes,
            **asdict(variant),
            "labels": LABELS,
            **how,
            "task_code": task_code(task),
        }
        stored = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.stored = stored if stored.get("what") == self.what else {}

    @property
    def finished(self) -> bool:
        return self.stored.get("status") == "finished"

    def measure(self, workspace: Workspace) -> None:
        """Pretrain, run the experiment, and keep the row."""
        begun, raw = time.monotonic(), self.experiment(workspace)
        finetune, encoder = self.how["finetune"], {"encoder": self.encoder, "init": self.start}
        plan = self.plan(raw, workspace)
        if not (steps := self.stored.get("steps")):
            steps = steps_for(self.minutes, self.request(plan, workspace).loop(DEFAULT_STEPS))
            write_json(self.file, {"what": self.what, "status": "running", "steps": steps})
        engine = {"encoder": self.encoder, "weights": self.start, "batch": self.variant.batch, "steps": steps}
        spec = {"task": self.task, **engine, "settings": self.settings}
        within = SETS[self.place].volumes is None and self.variant.pool is None
        if within:
            raw["pretraining"], own = {self.frozen: spec}, {"pretrain": self.frozen}
        else:
            folder = self.apart(plan, spec, workspace)
            own = encoder | {"init": str(folder / "checkpoint.safetensors")}
        raw["arms"] |= {self.frozen: own, self.tuned: own | {"strategy": finetune}}
        results = run(validate(Experiment, raw, self.place), workspace)
        if within:
            folder = workspace.encoder(json.loads((results.path / "pretrained.json").read_text())[self.frozen])
        about = {"code": code_revision("."), "seconds": round(time.monotonic() - begun)}
        found = self.found(results) | self.cost(folder) | about
        self.stored = {"what": self.what, "status": "finished", "steps": steps, **found}
        write_json(self.file, self.stored)

    def experiment(self, workspace: Workspace) -> dict[str, Any]:
        """The experiment but for the task's own arms; makes the set's scans where they are not there."""
        place, how = SETS[self.place], self.how
        place.make(workspace)
        finetune, encoder = how["finetune"], {"encoder": self.encoder, "init": self.start}
        sizes = SETS[self.place].imagenet
        native = {f"imagenet_{size}": {"encoder": IMAGENET, "init": "imagenet", "size": size} for size in sizes[1:]}
        arms = {"imagenet": {"encoder": IMAGENET, "init": "imagenet"}} | native if sizes else {}
        arms |= {"pixels": {"encoder": "pixels"}, self.random: encoder, self.scratch: encoder | {"strategy": finetune}}
        return place.config() | {
            "name": f"pretext_{self.place}",
            "budgets": [LABELS],
            "draws": how["draws"],
            "metrics": ["auc"],
            "replicates": how["replicates"],
            "baseline": list(dict.fromkeys([self.random, self.scratch, "pixels", *(["imagenet"] if sizes else [])])),
            "arms": arms,
        }

    def plan(self, raw: dict[str, Any], workspace: Workspace) -> Plan:
        """Split and budgets of the experiment."""
        config = validate(Experiment, raw, self.place)
        return make_plan(config, ensure_cohort(config.cohort, workspace))

    def source(self, plan: Plan, workspace: Workspace) -> tuple[Cohort, frozenset[str]]:
        """The cohort that is pretrained on, and the patients who are kept out."""
        volumes, cohort, out = SETS[self.place].volumes, plan.cohort, frozenset(plan.split.test)
        if volumes is not None:
            cohort, out = ensure_cohort(volumes, workspace), held_out_volumes(plan.cohort, plan.split.test)
        if self.variant.pool is not None:
            scans = cohort.scans()["patient"].value_counts().drop(list(out), errors="ignore")
            by_chance = sorted(scans.index, key=lambda patient: hashlib.sha256(patient.encode()).digest())
            fits = scans[by_chance].cumsum() <= self.variant.pool
            if fits.all():
                raise MedsslError(f"the pool has no more than {self.variant.pool} scans", self.place)
            out |= frozenset(fits.index[~fits])
        return cohort, out

    def request(self, plan: Plan, workspace: Workspace) -> Request:
        """The pretraining, before it begins."""
        cohort, out = self.source(plan, workspace)
        samples, about = of_cohort(cohort, self.task, plan.config.view, out)
        engine = {"encoder": self.encoder, "weights": self.start, "batch": self.variant.batch}
        return Request(samples, self.task, self.settings, out, about["modality"], engine, make_fabric)

    def apart(self, plan: Plan, spec: dict[str, Any], workspace: Workspace) -> Path:
        """The folder of a run on another cohort or on part of the pool, test patients left out."""
        cohort, out = self.source(plan, workspace)
        what = [self.what, spec, cohort.hash, sorted(out), torch.get_num_threads()]
        revision = code_revision("augment", "encoders", "pretext", "training")
        folder = workspace.encoder(f"{cohort.name}-{self.task}-{digest([what, revision], 10)}")
        pretrain(cohort, out=folder, view=plan.config.view, exclude=out, **spec)
        return folder

    def found(self, results: Results) -> dict[str, Any]:
        """Scores, and paired differences with their intervals."""
        scores = results.scores().set_index("arm")
        gaps = results.differences().set_index(["arm", "baseline"])
        random, scratch, frozen, tuned = self.random, self.scratch, self.frozen, self.tuned
        arms = {"frozen": frozen, "finetuned": tuned, "random": random, "scratch": scratch, "pixels": "pixels"}
        arms |= {name: name for name in scores.index if str(name).startswith("imagenet") and name != scratch}
        pairs = {"random": (frozen, random), "pixels": (frozen, "pixels"), "scratch": (tuned, scratch)}
        pairs |= {"imagenet": (frozen, "imagenet")} if "imagenet" in scores.index else {}
        keys = ["score", "low", "high"], ["difference", "low", "high"]
        return {
            "scores": {name: numbers(scores.loc[arm], keys[0]) for name, arm in arms.items()},
            "minus": {name: numbers(gaps.loc[pair], keys[1]) for name, pair in pairs.items()},
        }

    def cost(self, folder: Path) -> dict[str, Any]:
        """What pretraining reached against its floor, and images a second."""
        about = json.loads((folder / "run.json").read_text())
        history = read_history(folder / "history.jsonl")
        last = history.iloc[-1].to_dict()
        name = "accuracy" if "accuracy" in about["floor"] else "loss"
        reached = {"measure": name, "value": round(last[name], 4), "floor": round(about["floor"][name], 4)}
        speed = history["images_per_second"].median()  # the median, since a busy moment says nothing of the task
        return {"pretext": reached, "images_per_second": round(float(speed))}


def numbers(row: pd.Series, keys: list[str]) -> list[float | None]:
    """So many columns of a row, rounded; None where there is no interval."""
    return [None if pd.isna(row[key]) else round(float(row[key]), 4) for key in keys]


def chosen(options: argparse.Namespace, folder: Path) -> list[Row]:
    how = QUICK if options.quick else FULL
    pairs = [(task, place) for task in options.tasks for place in sets_of(task) if place in options.sets]
    variant = Variant(options.batch, options.pool, options.imagenet)
    return [Row(task, place, options.minutes, how, folder, variant) for task, place in pairs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = list(tasks())
    parser.add_argument("--tasks", nargs="+", metavar="NAME", choices=every, default=every)
    parser.add_argument("--sets", nargs="+", metavar="NAME", choices=list(SETS), default=list(SETS))
    parser.add_argument("--minutes", type=float, help="of pretraining a row; default 2, with --quick 0.05")
    parser.add_argument("--imagenet", action="store_true", help="start from ImageNet weights")
    parser.add_argument("--batch", type=int, default=BATCH, help="images a step; default 128")
    parser.add_argument("--pool", type=int, help="scans to pretrain on; default all")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="seconds a row; rows are kept in the workspace alone")
    parser.add_argument("--results", type=Path, help="folder of the rows; default benchmarks/results")
    parser.add_argument("--workspace", type=Path, help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    options = parser.parse_args()
    options.minutes = options.minutes or (0.05 if options.quick else 2)
    workspace = Workspace(options.workspace)
    folder = options.results or (workspace.path / "pretext_table" if options.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    rows = chosen(options, folder)
    todo = [row for row in rows if not row.finished]
    say(
        f"{len(rows)} rows: {len(rows) - len(todo)} are there, {len(todo)} to be measured, "
        f"about {len(todo) * (options.minutes + BESIDE):.0f} minutes on 2 cores"
    )
    failed = []
    for row in todo:
        try:
            row.measure(workspace)
        except MedsslError as error:
            failed.append(f"{row.task} on {row.place}: {error}")
            say(failed[-1])
    done = [row.stored for row in rows if row.finished]
    minutes = sum(row["seconds"] for row in done) / 60
    checks = [
        {"name": "rows_that_failed", "value": len(failed), "at_most": 0},
        {"name": "minutes_a_row", "value": round(minutes / max(1, len(done)), 2), "at_most": options.minutes + BESIDE},
    ]
    machine = {"processor": platform.machine(), "cores": torch.get_num_threads(), "torch": str(torch.__version__)}
    if options.json:
        print(json.dumps({"checks": checks, "rows": done, "minutes": round(minutes, 1), "machine": machine}))
    else:
        print(table(done))
    if not options.quick and options.results is None and done:
        say(f"written: {write_page().name}")
    return 0 if all(check["value"] <= check["at_most"] for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
