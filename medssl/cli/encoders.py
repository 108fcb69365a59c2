"""Commands that pretrain encoders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.base import JsonOption, Settings, WorkspaceOption, answer, command
from medssl.progress import say
from medssl.workspace import Workspace


@command
def pretrain(
    cohort: Annotated[Path, typer.Argument(help="Folder of a cohort.")],
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="Pretext task; see `medssl tasks`.")] = "simclr",
    out: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/encoders/COHORT-TASK.")] = None,
    encoder: Annotated[
        str,
        typer.Option(help="`small`, `small_gn`, `small_vit` (own), a timm name, in 3-D resnet10 to resnet50."),
    ] = "small",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps. Default, with no --epochs and --minutes: 1000.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images, instead of steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Turned into steps once, before step 1.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, views and order.")] = 0,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and needed, and stop.")] = False,
    slurm: Annotated[bool, typer.Option(help="Submit it to SLURM and return.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pretrain an encoder without labels. Interrupted, the same command goes on where it was.

    Settings are the task's own (see `medssl tasks`), fields of the View (plane=coronal, fit=stretch, or for patches of
    volumes spatial_dims=3 spacing=1 patches=8), and of the engine: weights, batch, accumulate, precision, optimizer,
    learning_rate, checkpoint_every (steps), checkpoint_minutes, log=tensorboard. The default View is the cohort's
    middle way: 64 pixels, the centre square, a soft-tissue window for CT, the full range of 8-bit images and
    percentiles .5 to 99.5 otherwise. With --slurm: slurm.partition=gpu slurm.nodes=2 slurm.gpus=4 slurm.hours=24.
    """
    from medssl.cohort import Cohort
    from medssl.config import Engine, View, apply_overrides, validate
    from medssl.errors import unknown
    from medssl.pretext import task_class
    from medssl.training import dry_run
    from medssl.training import pretrain as run_pretrain

    opened = Cohort.open(cohort)
    raw: dict[str, Any] = {}
    apply_overrides(raw, settings or [])
    nodes = raw.pop("slurm", {})
    view = {"size": size} | {key: raw.pop(key) for key in list(raw) if key in View.model_fields}
    options = {key: raw.pop(key) for key in list(raw) if key in Engine.model_fields}
    own = task_class(task).Settings.model_fields
    if strange := next((key for key in raw if key not in own), None):
        raise unknown("setting", strange, [*own, *View.model_fields, *Engine.model_fields], f"pretrain --task {task}")
    options |= {"encoder": encoder, "steps": steps, "epochs": epochs, "minutes": minutes, "seed": seed}
    options |= {"view": validate(View, view, "view"), "settings": raw}
    if dry:
        plan = dry_run(opened, task, **options)
        answer(plan.as_json(), as_json, str(plan))
        return
    place = out or Workspace(workspace).encoder(f"{opened.name}-{task}")
    if slurm:
        from medssl.training.slurm import submit

        job = submit(opened.path, task, place.resolve(), nodes, options)
        answer({"job": job.job_id, "out": str(place)}, as_json, f"job {job.job_id}, logs in {place / 'slurm'}")
        return
    result = run_pretrain(opened, task, out=place, **options)
    if int(os.environ.get("RANK", 0)):
        return  # of several processes one answers
    done = result.as_json()
    speed = f"{done['images_per_second']:.0f} images/s" if done["images_per_second"] else "finished before"
    answer(done, as_json, f"{done['checkpoint']}\n{done['steps']} steps, {speed}")
    home = Workspace(workspace).path
    if place.resolve().parent == home / "encoders" and opened.path.resolve().parent == home / "cohorts":
        say(f"To see which scans it takes for alike: medssl app --workspace {home}, page Embedding")


@command
def show(
    cohort: Annotated[Path, typer.Argument(help="Folder of a cohort.")],
    settings: Settings = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Pretext task, with an untrained network (repeat for several).")
    ] = None,
    encoder: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint of `medssl pretrain`, with its task (repeat for several).")
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG file.")] = Path("picture.png"),
    size: Annotated[int, typer.Option(help="Pixels a side, with --task.")] = 64,
    rows: Annotated[int, typer.Option(min=1, max=16, help="Images a task.")] = 4,
    seed: Annotated[int, typer.Option(help="Of images and views.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw what pretext tasks see of a cohort's scans, and what their networks answer.

    Settings, with --task: of the task and of the View, as for `medssl pretrain`. Nothing in the picture names a patient
    but what the scans themselves show.
    """
    from medssl.cohort import Cohort
    from medssl.config import View, apply_overrides, validate
    from medssl.figures import Section, save_sheet
    from medssl.pretext import task_class
    from medssl.training import show as draw

    opened = Cohort.open(cohort)
    raw: dict[str, Any] = {}
    apply_overrides(raw, settings or [])
    view = {"size": size} | {key: raw.pop(key) for key in list(raw) if key in View.model_fields}
    chosen = validate(View, view, "view")
    names = task or ([] if encoder else ["simclr"])
    shown = [draw(opened, name, view=chosen, settings=raw, rows=rows, seed=seed) for name in names]
    shown += [draw(opened, checkpoint=file, rows=rows, seed=seed) for file in encoder or []]
    sections = []
    for found in shown:
        how = f"after {found.steps:,} steps" if found.steps else "an untrained network: its answers mean nothing"
        sections.append(Section(f"{found.task} ({how})", task_class(found.task).line, found.rows))
    save_sheet(sections, out)
    answer({"picture": str(out), "tasks": [found.task for found in shown]}, as_json, str(out))


@command
def tasks(as_json: JsonOption = False) -> None:
    """List the pretext tasks: paper, what they take, what they do."""
    from medssl.pretext import tasks as all_tasks

    about = ("paper", "sampling", "dims", "channels", "line")
    rows = [{"name": name, **{key: getattr(task, key) for key in about}} for name, task in all_tasks().items()]
    wide = max(len(row["name"]) for row in rows)
    lines = [
        f"{row['name']:<{wide}}  {'/'.join(f'{n}-D' for n in row['dims'])}  {row['line']} ({row['paper']})"
        for row in rows
    ]
    answer(rows, as_json, "\n".join(lines))
