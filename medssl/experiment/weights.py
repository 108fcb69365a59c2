"""Files of weights that a config names: whom they learned from, and what they were made to see.

A run under `pretraining:` keeps test patients out by itself; a file was written somewhere else, and may know them.
What a file says of its patients holds for cohorts of one workspace, in which a patient has one key. Weights that medssl
did not write say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from medssl.config import Experiment, View, weights_file
from medssl.errors import UserError

SIZES = frozenset({"size", "slices", "patches"})  # of a View: how many pixels and samples, and not how they look
OF_INTENSITY = {"window": ("auto", "window"), "percentiles": ("auto", "percentiles")}
INSIDE = "Pretrain in the experiment (under pretraining:), which keeps test patients out."


def named_files(config: Experiment) -> Iterator[tuple[str, Path]]:
    """Where in the config a file of weights is named that an arm uses, and its path."""
    named = [(f"arms.{name}.init", arm.init) for name, arm in config.arms.items() if not arm.pretrain]
    used = {arm.pretrain for arm in config.arms.values()}
    named += [(f"pretraining.{name}.weights", run.weights) for name, run in config.pretraining.items() if name in used]
    for where, weights in named:
        if (path := weights_file(weights)) is not None:
            yield where, path


def refuse_unfit_files(config: Experiment, tested: Set[str]) -> None:
    """
    Args:
        tested: keys of the patients whom nothing may have learned from.

    Raises:
        UserError: a file learned from one of them, does not say whom it learned from though medssl wrote it, or was
            pretrained on scans that were drawn otherwise.
    """
    for where, path in named_files(config):
        if (number := known_patients(path, tested)) is None:
            what = f"{path.name} does not say which patients it learned from, so that some of them may be tested here"
            raise UserError(what, where, f"Name a checkpoint of `medssl pretrain`. {INSIDE}")
        if number:
            raise UserError(f"{path.name} has learned from {number} patient(s) who are tested here", where, INSIDE)
        _refuse_other_view(path, config.view, where)


def known_patients(path: Path, tested: Set[str]) -> int | None:
    """How many of these patients a file of weights has learned from; None where it should say and does not."""
    from medssl.encoders import learned_from, marks

    learned = learned_from(path)
    if learned is None:
        return None if _view(path) else 0
    return len(learned.intersection(marks(tested)))


def _view(path: Path) -> dict[str, Any] | None:
    """The View that the weights were trained with; none where medssl did not train them."""
    from medssl.encoders import read_metadata

    about = read_metadata(path)
    return about.get("view") or about.get("identity", {}).get("view")


def _refuse_other_view(path: Path, view: View, where: str) -> None:
    if (raw := _view(path)) is None:
        return
    theirs, ours = _looks(View.model_validate(raw)), _looks(view)
    differs = [name for name in ours if theirs.get(name) != ours[name]]
    if differs:
        said = "; ".join(f"{name} {theirs.get(name)} there and {ours[name]} here" for name in differs)
        fix = "Set the experiment's view to that of the file, or pretrain with this view (under pretraining:)."
        raise UserError(f"{path.name} was pretrained on scans that are drawn otherwise: {said}", where, fix)


def _looks(view: View) -> dict[str, Any]:
    """What decides how a scan looks; what its intensities do not use is left out."""
    looks = view.model_dump(exclude=set(SIZES))
    for name, used_by in OF_INTENSITY.items():
        if view.intensity not in used_by or (name == "window" and view.windows):
            looks[name] = None
    return looks
