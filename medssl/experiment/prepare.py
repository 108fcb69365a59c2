"""Before the jobs: scans, and what the jobs of an arm share, each made once and reused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.cohort import Cohort, Samples
from medssl.config import Arm, Experiment, Source, View
from medssl.errors import SourcePath, UserError
from medssl.experiment.job import ArmInputs, EncoderSource, OtherInputs
from medssl.experiment.others import OtherData, used_others
from medssl.experiment.plan import LIBRARIES, Plan, job_seed
from medssl.experiment.tuning import recipes
from medssl.progress import say
from medssl.transfer import HANDCRAFTED, strategy, unit_means
from medssl.workspace import Workspace, atomic, code_revision, data_folder, digest, library_versions

FEATURE_ROOMS = ("encoders", "transfer/features.py", "transfer/radiomics.py")


def ensure_cohort(source: Source, workspace: Workspace) -> Cohort:
    """The cohort of that name in the workspace; ingested from its source where it is missing or half done.

    Raises:
        UserError: no such source; or the cohort is there, and the table of labels now says something else.
    """
    from medssl.ingest import ingest, is_complete

    path = workspace.cohort(source.name)
    if is_complete(path):
        _refuse_other_labels(source, path, workspace)
    else:
        folder = find_source(source, workspace)
        say(f"Cohort '{source.name}' is not there yet: ingesting its source")
        report = ingest([folder], path, workspace=workspace, labels=source.labels)
        say("\n".join(report.lines(sys.stderr.isatty())))
    return Cohort.open(path)


def _refuse_other_labels(source: Source, cohort: Path, workspace: Workspace) -> None:
    """A cohort keeps the labels that it was given; a table that is not there any more says nothing."""
    from medssl.ingest.identity import Keys
    from medssl.ingest.tables import find_table, is_applied, read_table

    if source.labels is None:
        return
    folders = [place for place in _places(source, workspace) if place.is_dir()]
    if find_table(source.labels, folders) is None:
        return
    if not is_applied(cohort, read_table(source.labels, folders), Keys(workspace)):
        what = f"the table of labels is not the one that cohort '{source.name}' has its labels from"
        named = source.labels
        roles = {"scan-column": named.scan, "patient-column": named.patient, "group-column": named.group}
        columns = [f"--{option} {column}" for option, column in roles.items() if column]
        columns += [f"--target {column}" for column in named.targets]
        command = " ".join(["medssl label", str(cohort), "LABELS", *columns])
        fix = f"Take it over with `{command}`, or give the cohort another name."
        raise UserError(what, "cohort.labels", fix)


def open_others(config: Experiment, workspace: Workspace) -> dict[str, Cohort]:
    """The other cohorts that arms learn from, by their entries under `others:`; ingested where they are missing."""
    sources = {name: config.others[name].cohort for name in used_others(config)}
    return {name: ensure_cohort(source, workspace) for name, source in sources.items() if source is not None}


def find_source(source: Source, workspace: Workspace) -> Path:
    """Where the scans lie: an absolute path, or below MEDSSL_DATA (else ../shared/data), or WORKSPACE/sources."""
    for place in _places(source, workspace):
        if place.exists():
            return place
    fix = source.obtain or "Set MEDSSL_DATA to the folder that holds it, or write an absolute path in the config."
    raise UserError(f"the source of cohort '{source.name}' does not exist", SourcePath(source.source), fix)


def _places(source: Source, workspace: Workspace) -> list[Path]:
    """Where the scans may lie."""
    named, data = Path(source.source).expanduser(), data_folder()
    if named.is_absolute():
        return [named]
    return [*([data / named] if data else []), workspace.path / "sources" / named]


def prepare_arm(
    name: str,
    plan: Plan,
    workspace: Workspace,
    pretrained: dict[str, list[tuple[str, Path]]],
    samples: Samples,
    run: int = 0,
) -> tuple[ArmInputs, str]:
    """What the jobs of an arm share, and the key of its encoder. Embeddings are made here, once, with all threads.

    Args:
        run: which of the arm's pretraining seeds.
    """
    arm: Arm = plan.config.arms[name]
    source, key = _encoder_source(arm, plan.config, pretrained, samples, run)
    unit_of = unit_numbers(samples.table, plan.units["unit"], plan.config.target.unit)
    if gone := len(np.setdiff1d(np.flatnonzero(plan.units["label"].notna()), unit_of)):
        raise UserError(f"{gone} labeled unit(s) have no image in this view", "view", "Take a View that they have.")
    features = None
    methods = [
        strategy(arm.strategy_name, arm.strategy_settings | changes, f"arms.{name}.strategy")
        for changes in recipes(name, arm, plan.config.tuning)
    ]
    if methods[0].frozen:
        features = _features(source, key, samples, unit_of, len(plan.units), workspace, encoder_seed(arm, plan.config))
    elif source is not None:  # now, and not as the error of a hundred jobs that have opened the test split
        encoder = source.make(arm.seed)
        encoder.check_field("an image", samples.view.size, samples.view.size, f"arm '{name}'")
        for method in methods:
            method.see(samples.view)
            method.check(encoder, source.heads())
    else:
        fix = "Take a frozen one, such as probe or gradient_boosting, or give the arm an encoder."
        what = f"the strategy '{arm.strategy_name}' trains an encoder, and '{arm.encoder}' is none"
        raise UserError(what, f"arms.{name}.strategy", fix)
    modality = plan.cohort.modality
    images = Path(str(samples.images.filename))  # type: ignore[attr-defined]  # a memory map knows its file
    others = _other_inputs(plan.others[arm.jointly], plan.view(arm)) if arm.jointly else None
    return ArmInputs(arm, source, images, unit_of, features, modality, others), key


def _other_inputs(other: OtherData, view: View) -> OtherInputs:
    samples = other.cohort.samples(view)
    unit_of = unit_numbers(samples.table, other.units["unit"], other.target.unit)
    modality = other.cohort.modality
    images = Path(str(samples.images.filename))  # type: ignore[attr-defined]  # a memory map knows its file
    target = None if other.same_task else other.target
    return OtherInputs(images, unit_of, other.units["label"].tolist(), target, modality)


def unit_numbers(table: pd.DataFrame, units: pd.Series, unit: str) -> np.ndarray:
    """(N,) number of the labeled unit that each sample belongs to, -1 for none."""
    column = {"image": "scan", "exam": "exam", "patient": "patient"}[unit]
    return table[column].map(pd.Series(range(len(units)), index=units)).fillna(-1).to_numpy(np.int64)


def encoder_seed(arm: Arm, config: Experiment) -> int:
    """Of an encoder that stays as it is initialised: one for all draws. An arm with a seed of its own has another."""
    return job_seed(config.seed, 0, arm.seed) if arm.seed else config.seed


def _encoder_source(
    arm: Arm, config: Experiment, pretrained: dict[str, list[tuple[str, Path]]], samples: Samples, run: int
) -> tuple[EncoderSource | None, str]:
    from medssl.training.identity import weights_key

    channels, dims = samples.images.shape[1], samples.view.spatial_dims
    if arm.pretrain:
        key, checkpoint = pretrained[arm.pretrain][run]
        return EncoderSource(config.pretraining[arm.pretrain].encoder, "checkpoint", channels, dims, checkpoint), key
    if arm.encoder in HANDCRAFTED:
        return None, arm.encoder
    key = f"{arm.encoder}-{weights_key(arm.init)}-{channels}-{encoder_seed(arm, config)}"
    return EncoderSource(arm.encoder, arm.init, channels, dims), key


def _features(
    source: EncoderSource | None,
    key: str,
    samples: Samples,
    unit_of: np.ndarray,
    units: int,
    workspace: Workspace,
    seed: int,
) -> Path:
    """File of (units, D) mean embeddings, computed once per encoder, samples and list of units."""
    what = [key, samples.key, digest(unit_of.tolist()), code_revision(*FEATURE_ROOMS), library_versions(*LIBRARIES)]
    path = workspace.features(digest(what))
    if not path.exists():
        if source is None:
            embedded = HANDCRAFTED[key](samples.images)
        else:
            from medssl.encoders import embed_all
            from medssl.training.rules import this_device

            say(f"Embedding {len(samples)} samples at {samples.view.size} px with {key}")
            embedded = embed_all(source.make(seed).to(this_device()), samples.images)
        with atomic(path) as fresh, fresh.open("wb") as file:
            np.save(file, _means(embedded, unit_of, units))
    return path


def _means(embedded: np.ndarray, unit_of: np.ndarray, units: int) -> np.ndarray:
    """(units, D): as `unit_means`; not a number for units that have no sample, as unlabeled ones may."""
    there = unit_of >= 0
    present, number = np.unique(unit_of[there], return_inverse=True)
    found = np.full((units, embedded.shape[1]), np.nan, np.float32)
    found[present] = unit_means(embedded[there], number, len(present))
    return found
