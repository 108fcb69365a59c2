"""All tables of an experiment from its evidence, and how they are kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.config import Budget, Experiment
from medssl.experiment.external import PART
from medssl.experiment.plan import encoder_label
from medssl.progress import say
from medssl.statistics import (
    Evidence,
    Replicates,
    area,
    differences,
    full_shares,
    label_savings,
    scores,
    smallest_budget,
)
from medssl.statistics.tables import DIFFERENCE_COLUMNS, SCORE_COLUMNS
from medssl.workspace import write_json

NUMBERS = {"score", "difference", "low", "high", "p", "p_adjusted", "area", "factor", "share"}


def compute_tables(
    load: Callable[[str], Evidence], config: Experiment, counts: Mapping[Budget, int], main: tuple[str, str, str]
) -> dict[str, pd.DataFrame]:
    """`scores`, `differences`, `savings`, `shares`, `curves`, `external_...`, as `Results` shows them.

    Args:
        load: the evidence of all finished jobs on a part of the units.
        config: of the experiment.
        counts: budget -> labeled units in total.
        main: (arm, baseline, metric) of the main comparison.
    """
    _, baseline, metric = main
    boot = Replicates(load(config.evaluate), config.metrics, config.replicates)
    labels = {name: encoder_label(arm, config) for name, arm in config.arms.items()}
    same = {(a, b): labels[a] == labels[b] for a in labels for b in labels}
    reached = [(arm, *smallest_budget(boot, arm, metric, counts)) for arm in config.arms]
    saved = [label_savings(boot, arm, baseline, metric, counts) for arm in config.arms if arm != baseline]
    full = [table for table in saved if len(table)] or saved[:1]
    curves = area(boot, metric, counts).merge(pd.DataFrame(reached, columns=["arm", "budget", "surely"]), "left")
    elsewhere = {
        source.name: Replicates(load(PART + source.name), config.metrics, config.replicates)
        for source in config.external
        if config.evaluate == "test"
    }
    far_scores = [_of(name, in_order(scores(far), config)) for name, far in elsewhere.items()]
    far_gaps = [_of(name, in_order(differences(far, config.baseline, same), config)) for name, far in elsewhere.items()]
    return {
        "external_scores": _stacked(far_scores, SCORE_COLUMNS),
        "external_differences": _stacked(far_gaps, DIFFERENCE_COLUMNS),
        "scores": in_order(scores(boot), config),
        "differences": in_order(differences(boot, config.baseline, same, config.claim), config),
        "savings": pd.concat(full, ignore_index=True) if full else label_savings(boot, "", "", metric, counts),
        "shares": in_order(full_shares(boot, metric, counts), config),
        "curves": curves,
    }


def compute_against(evidence: Evidence, config: Experiment, baseline: str) -> pd.DataFrame:
    """Differences of all arms to one that the config names as no baseline; corrected among themselves."""
    boot = Replicates(evidence, config.metrics, config.replicates)
    labels = {name: encoder_label(arm, config) for name, arm in config.arms.items()}
    same = {(arm, baseline): labels[arm] == labels[baseline] for arm in labels}
    return in_order(differences(boot, [baseline], same), config)


def _stacked(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame([], columns=["cohort", *columns])


def _of(cohort: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(cohort=cohort)[["cohort", *table.columns]]


def in_order(table: pd.DataFrame, config: Experiment) -> pd.DataFrame:
    """Rows in the config's order of metrics, arms and budgets."""
    order = {
        "metric": {m: i for i, m in enumerate(config.metrics)},
        "arm": {a: i for i, a in enumerate(config.arms)},
        "budget": {b: i for i, b in enumerate(config.budgets)},
    }
    keys = [c for c in ("metric", "baseline", "arm", "budget") if c in table]
    ranks = {**order, "baseline": order["arm"]}
    sort_keys = table[keys].apply(lambda column: column.map(ranks[str(column.name)]))
    return table.loc[sort_keys.sort_values(keys, kind="stable").index].reset_index(drop=True)


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows as plain values, NaN as None."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def kept(file: Path, make: Callable[[], dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables in this file; where it is missing or damaged they are made, and written there."""
    try:
        if (stored := read_tables(file)) is not None:
            return stored
    except (ValueError, KeyError):
        say("The stored tables are damaged; they are computed again.")
    tables = make()
    write_json(file, {name: {"columns": list(t.columns), "rows": records(t)} for name, t in tables.items()})
    return tables


def read_tables(path: Path) -> dict[str, pd.DataFrame] | None:
    """Tables as they were written; None where there are none."""
    if not path.exists():
        return None
    tables = {}
    for name, raw in json.loads(path.read_text()).items():
        table = pd.DataFrame(raw["rows"], columns=raw["columns"])
        numbers = [c for c in table if c in NUMBERS]
        table[numbers] = table[numbers].astype(float)
        for column in ("budget", "surely", "most"):
            if column in table:
                table[column] = pd.Series([row[column] for row in raw["rows"]], dtype=object)
        tables[name] = table
    return tables
