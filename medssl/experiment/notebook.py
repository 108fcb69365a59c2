"""How results read in a notebook: the curve, a comparison, one frame, and what stands under a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from medssl.display import card
from medssl.errors import unknown

DIGITS = 4
Results = Any  # of `medssl.experiment.results`, which imports this file


def curve(results: Results, metric: str | None, arms: Sequence[str] | None) -> Any:
    """See `Results.curve`."""
    from medssl.figures import label_efficiency

    config = results.settings
    for arm in arms or ():
        _known("arm", arm, list(config.arms))
    return label_efficiency(
        results.scores(),
        results.label_counts(),
        _metric(results, metric),
        arms,
        per=config.per,
        unit=config.target.unit,
        title=results.title,
    )


def compare(results: Results, arm: str, baseline: str | None, metric: str | None) -> pd.DataFrame:
    """See `Results.compare`."""
    from medssl.figures import metric_name

    config, metric = results.settings, _metric(results, metric)
    _known("arm", arm, list(config.arms))
    baseline = _known("baseline", baseline or results.main_comparison[1], config.baseline)
    table = results.differences()
    table = table[(table["arm"] == arm) & (table["baseline"] == baseline) & (table["metric"] == metric)]
    scores = results.scores()
    scores = scores[scores["metric"] == metric].set_index(["arm", "budget"])["score"]
    found = pd.DataFrame({"budget": list(table["budget"])})
    found["labels"] = [results.label_counts()[budget] for budget in found["budget"]]
    for name in (arm, baseline):
        found[name] = [scores.get((name, budget)) for budget in found["budget"]]
    for column in ("difference", "low", "high", "p_adjusted", "verdict"):
        found[column] = list(table[column])
    found = found.rename(columns={"p_adjusted": "p"}).set_index("budget").round(DIGITS)
    found.columns.name = f"{arm} against {baseline}, {metric_name(metric)}"
    return found


def to_frame(results: Results, metric: str | None) -> pd.DataFrame:
    """See `Results.to_frame`."""
    from medssl.figures import metric_name

    metric, baseline = _metric(results, metric), results.main_comparison[1]
    scores, table, counts = results.scores(), results.differences(), results.label_counts()
    scores = scores[scores["metric"] == metric].set_index(["arm", "budget"])
    table = table[(table["metric"] == metric) & (table["baseline"] == baseline)].set_index(["arm", "budget"])
    found = pd.DataFrame({"labels": [counts[budget] for _, budget in scores.index]}, index=scores.index)
    found = found.join(scores[["score", "low", "high"]]).join(table[["difference", "verdict"]])
    found.columns.name = f"{metric_name(metric)}; difference to {baseline}"
    return found.round(DIGITS)


def html(results: Results) -> str:
    """Title, state, verdict and the scores by the main metric; no id of a patient or scan."""
    from medssl.figures import budget_name, metric_name

    config, jobs = results.settings, results.jobs()
    done = int((jobs["status"] == "done").sum())
    state = "finished" if results.complete else f"{done} of {len(jobs)} jobs done" if len(jobs) else "not started"
    facts = [f"experiment {results.name} · cohort {config.cohort.name} · predicts {config.target.name} · {state}"]
    if not done:
        return card(results.title, facts)
    metric = results.main_comparison[2]
    scores = results.scores()
    cells: dict[Any, Any] = scores[scores["metric"] == metric].set_index(["arm", "budget"]).to_dict("index")
    said = results.verdicts()
    claimed = said[said["claim"]] if config.claim else said
    facts += [*claimed["sentence"][:1], f"{metric_name(metric)} with its 95 % interval, by labels"]
    heads = ["arm", *(budget_name(budget) for budget in config.budgets)]
    rows = [[arm, *(_cell(cells.get((arm, budget))) for budget in config.budgets)] for arm in config.arms]
    return card(results.title, [*facts, config.note], heads, rows)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    interval = "" if math.isnan(row["low"]) else f" ({row['low']:.3f}–{row['high']:.3f})"
    return f"{row['score']:.3f}{interval}"


def _metric(results: Results, metric: str | None) -> str:
    return _known("metric", metric or results.main_comparison[2], results.settings.metrics)


def _known(kind: str, name: str, names: list[str]) -> str:
    if name not in names:
        raise unknown(kind, name, names)
    return name
