"""The encoders of an experiment: pretrained before the jobs, each made once and reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medssl.config import SUPERVISED, Experiment, Pretraining, View
from medssl.errors import UserError
from medssl.experiment.job import EncoderSource
from medssl.experiment.labels import make_target
from medssl.experiment.others import OtherData
from medssl.experiment.plan import Plan
from medssl.experiment.prepare import unit_numbers
from medssl.transfer import HANDCRAFTED, TargetKind
from medssl.workspace import Workspace, code_revision, digest

SUPERVISED_ROOMS = ("transfer/supervised.py", "transfer/target.py", "transfer/targets")


def pretrain_encoders(plan: Plan, workspace: Workspace) -> dict[str, list[tuple[str, Path]]]:
    """(key, checkpoint) of every encoder that an arm uses, by pretraining run, in the order of their seeds."""
    return {
        name: [pretrain_encoder(name, plan, workspace, run) for run in range(count)]
        for name, count in encoder_seeds(plan.config).items()
    }


def check_encoders(plan: Plan) -> None:
    """Make every encoder that arms and pretraining runs start from once, before anything is computed.

    Raises:
        UserError: no such encoder, or weights that it does not have.
    """
    config, seeds = plan.config, encoder_seeds(plan.config)
    wanted = {
        (arm.encoder, arm.init, plan.view(arm)): (f"arms.{name}", "init")
        for name, arm in config.arms.items()
        if not arm.pretrain and arm.encoder not in HANDCRAFTED
    }
    for name in seeds:
        spec = config.pretraining[name]
        wanted[spec.encoder, spec.weights, pretraining_view(spec, plan)] = f"pretraining.{name}", "weights"
    for (encoder, weights, view), (where, key) in wanted.items():
        try:
            EncoderSource(encoder, weights, view.channels, view.spatial_dims).make(0)
        except UserError as error:
            place = "encoder" if error.where == "encoder" else key
            raise UserError(error.what, f"{where}.{place}", error.fix) from None


def encoder_seeds(config: Experiment) -> dict[str, int]:
    """How many encoders each pretraining run gives: what the greediest arm wants; unused runs are left out."""
    wanted = {
        name: [arm.pretrain_seeds for arm in config.arms.values() if arm.pretrain == name]
        for name in config.pretraining
    }
    return {name: max(counts) for name, counts in wanted.items() if counts}


def pretrain_encoder(name: str, plan: Plan, workspace: Workspace, run: int = 0) -> tuple[str, Path]:
    """The encoder of one pretraining run: (key, checkpoint). A finished one is reused, an interrupted one goes on.

    Test patients are kept out of pretraining, in another cohort too (see `medssl.experiment.others`).

    Args:
        run: added to the seed of the config.
    """
    from medssl.training import pretrain

    spec: Pretraining = plan.config.pretraining[name]
    spec = spec.model_copy(update={"seed": spec.seed + run})
    view = pretraining_view(spec, plan)
    key = encoder_key(name, spec, plan)
    other = plan.others[spec.other] if spec.other else None
    if other is not None and spec.task == SUPERVISED:
        return key, _pretrain_on_labels(other, spec, view, workspace.encoder(key), plan.target)
    result = pretrain(
        other.cohort if other else plan.cohort,
        spec.task,
        out=workspace.encoder(key),
        view=view,
        settings=spec.settings,
        exclude=other.kept_out if other else frozenset(plan.split.test),
        **spec.engine(),
    )
    return key, result.checkpoint


def pretraining_view(spec: Pretraining, plan: Plan) -> View:
    """How the scans are drawn that a run learns from."""
    return plan.config.view.model_copy(update={"size": spec.size}) if spec.size else plan.config.view


def _pretrain_on_labels(other: OtherData, spec: Pretraining, view: View, out: Path, own: TargetKind) -> Path:
    """The checkpoint of an encoder that learnt the labels of an entry under `others:`; where they are labels of the
    experiment's `own` target, as this."""
    from medssl.training import fit
    from medssl.transfer.supervised import supervised_task

    samples, scans = other.cohort.samples(view), other.cohort.scans()
    unit_of = unit_numbers(samples.table, other.units["unit"], other.target.unit)
    labels = other.units["label"].tolist()
    target = own if other.same_task else make_target(other.target, labels)
    truth = target.encode(labels)
    result = fit(
        samples,
        supervised_task(target.taught(truth), truth[unit_of.clip(0)], unit_of >= 0),
        out=out,
        settings={**spec.settings, "labels": other.labels_key},
        exclude=frozenset(scans["patient"]) - frozenset(other.units["patient"]),
        modality=other.cohort.modality,
        about={"cohort": other.cohort.name, "cohort_hash": other.cohort.hash},
        **spec.engine(),
    )
    return result.checkpoint


def encoder_key(name: str, spec: Pretraining, plan: Plan) -> str:
    """Folder name of an encoder: readable, and different for everything that decides its weights, since a folder that
    another run began is refused."""
    from medssl.training.identity import outside, weights_key
    from medssl.training.rules import resolve_precision, this_device

    other = plan.others[spec.other] if spec.other is not None else None
    view, device = pretraining_view(spec, plan), this_device()
    what: dict[str, Any] = {
        "run": {**spec.choices(), "weights": weights_key(spec.weights)},
        "samples": (other or plan).cohort.samples(view).key,
        "cohort": plan.cohort.hash,
        "excluded": digest(list(plan.split.test)),
        "device": device.type,
        "precision": resolve_precision(spec.precision, device, view.spatial_dims),
        "outside": outside(),
    }
    if other is not None:
        what["other"] = other.scans_key
        if spec.task == SUPERVISED:
            what |= {"labels": other.labels_key, "task": code_revision(*SUPERVISED_ROOMS)}
            if other.same_task:
                what["as"] = [plan.config.target.model_dump(), plan.target.classes]
    return f"{plan.cohort.name}-{name}-{digest(what, 10)}"
