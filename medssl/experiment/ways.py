"""Which of Schaal's eight ways an arm goes: what else it learns from, beside the labels that its budget counts.

- Task: the *same* where the experiment's own classes are learnt, from labels that mean them (`classes:`, or the same
  target) or from guesses of them (pseudo-labels, a teacher). Any other label is *another* task, and so is every pretext
  task, whose answers are no classes of the target.
- Domain: the *same* where the scans are of the experiment's own cohort, *another* for any other cohort, and for weights
  that came from elsewhere (ImageNet's photographs).
- Order: *in sequence* where that is learnt first and the target's labels after it, *jointly* in the same steps.

An arm that learns from several things goes several ways, in their order in time; one that learns from its labels alone
goes none. All follows from the config (docs/transfer_paths.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.config import SUPERVISED, Arm, Experiment, weights_file
from medssl.transfer import HANDCRAFTED, strategy
from medssl.transfer.problem import Order, SameOrOther

UNTAUGHT = frozenset({"random", "imagenet_mean_var"})  # weights that know no feature
ALONE = "the labels alone"
COLUMNS = ("arm", "way", "source", "other_labels")


@dataclass(frozen=True)
class Way:
    """One of the eight.

    Attributes:
        source: what is learnt, in words.
        entry: under `others:`, where its labels are learnt.
    """

    task: SameOrOther
    domain: SameOrOther
    order: Order
    source: str
    entry: str | None = None

    def __str__(self) -> str:
        return f"{self.task} task, {self.domain} domain, {self.order}"


def arm_ways(arm: Arm, config: Experiment, known: Mapping[str, str] | None = None) -> list[Way]:
    """The ways of an arm, first what is learnt first.

    Args:
        config: of the experiment that it belongs to.
        known: file of weights -> the cohort that it was pretrained on, where that is known. Without it a file counts
            as coming from another domain.
    """
    ways: list[Way] = []
    run = config.pretraining[arm.pretrain] if arm.pretrain else None
    weights = run.weights if run else arm.init
    if weights not in UNTAUGHT and (run or arm.encoder not in HANDCRAFTED):
        home = (known or {}).get(weights)
        source = f"{home} (a file of weights)" if home else Path(weights).name
        ways.append(Way("other", "same" if home == config.cohort.name else "other", "in sequence", source))
    if run and run.task == SUPERVISED:
        assert run.other is not None, "checked with the config"
        ways.append(_of_labels(run.other, config, "in sequence"))
    elif run:
        there = config.others[run.other].cohort if run.other else None
        home = there.name if there else config.cohort.name
        ways.append(Way("other", "other" if there else "same", "in sequence", f"{run.task} on {home}"))
    if arm.jointly:
        ways.append(_of_labels(arm.jointly, config, "jointly"))
    if beside := strategy(arm.strategy_name, arm.strategy_settings).beside:
        task, order = beside
        source = f"{arm.strategy_name} on {config.cohort.name}"
        ways.append(Way(task, "same", order, source))
    return ways


def initialisation(arm: Arm, config: Experiment) -> str:
    """Where an arm's weights come from, in short."""
    if not arm.pretrain:
        return "none" if arm.encoder in HANDCRAFTED else _named(arm.init)
    spec = config.pretraining[arm.pretrain]
    return spec.task if spec.weights == "random" else f"{_named(spec.weights)}, then {spec.task}"


def _named(weights: str) -> str:
    """Where a file lies is nobody's business in a report."""
    path = weights_file(weights)
    return weights if path is None else path.name


def _of_labels(name: str, config: Experiment, order: Order) -> Way:
    other = config.others[name]
    home, target = other.cohort or config.cohort, other.target or config.target
    task: SameOrOther = "same" if other.same_task else "other"
    source = f"labels of {target.name} in {home.name}"
    return Way(task, "same" if other.cohort is None else "other", order, source, name)


def ways_table(
    config: Experiment, others: Mapping[str, Mapping[str, Any]], known: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A row an arm: `arm, way, source` in words, the ways of an arm in their order in time, and `other_labels`, how
    many labels it learns beside its budget's.

    Args:
        others: what is known of the entries under `others:`, above all how many `labels` teach.
        known: see `arm_ways`.
    """
    rows = []
    for name, arm in config.arms.items():
        ways = arm_ways(arm, config, known)
        entries = {way.entry for way in ways if way.entry}
        labels = sum(others.get(entry, {}).get("labels", 0) for entry in entries)
        source = "; then ".join(way.source for way in ways)
        rows.append((name, "; then ".join(map(str, ways)) or ALONE, source, labels))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def origins(config: Experiment) -> dict[str, str]:
    """File of weights -> cohort, of all that medssl wrote."""
    from medssl.encoders import read_metadata

    named = {arm.init for arm in config.arms.values()} | {run.weights for run in config.pretraining.values()}
    files = {weights: path for weights in named if (path := weights_file(weights)) and path.is_file()}
    found = {weights: read_metadata(path).get("cohort") for weights, path in files.items()}
    return {weights: cohort for weights, cohort in found.items() if cohort}
