"""The report's words and tables, made from Results alone."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from medssl.experiment.tuning import words
from medssl.figures import arm_colours, budget_key, budget_name, metric_name
from medssl.figures.words import NOT_ESTIMABLE, interval, number
from medssl.transfer import target_class

if TYPE_CHECKING:
    from medssl.experiment import Results

ORDER = {"pool": 0, "validation": 1, "test": 2}
WITHOUT_ENCODER = {"pixels": "none (raw pixels)", "radiomics": "none (first-order and texture features)"}
PACKAGES = (
    "medssl",
    "torch",
    "lightning-fabric",
    "timm",
    "scikit-learn",
    "numpy",
    "pandas",
    "altair",
    "vl-convert-python",
)


def verdicts(results: Results) -> list[dict[str, str]]:
    """The sentences that stand first, with the verdict that colours each."""
    table = results.verdicts()
    return [{"kind": kind_of(row["verdict"]), "sentence": row["sentence"]} for row in table.to_dict("records")]


def kind_of(verdict: str) -> str:
    """A verdict as a CSS class."""
    return verdict.replace(" ", "-")


def claim(results: Results) -> str:
    """What the experiment set out to show, if it said so beforehand."""
    stated = results.settings.claim
    if not stated:
        return ""
    budget = budget_name(stated.budget, results.settings.per)
    metric = metric_name(stated.metric)
    compared = f"{stated.arm} against {stated.baseline} with {budget}, by {metric}"
    return f"Claim, named in the configuration beforehand: {compared}. All other comparisons are exploratory."


def budget_heads(results: Results) -> list[dict[str, Any]]:
    """Column heads: the budget, and the labeled units that it comes to."""
    counts, unit = results.label_counts(), results.settings.target.unit
    return [
        {"budget": str(b), "total": f"{counts[b]} {unit}s" if b in counts else ""} for b in results.settings.budgets
    ]


def score_table(results: Results, scores: pd.DataFrame, arms: list[str], metric: str) -> list[dict[str, Any]]:
    """A row an arm; a cell a budget: score and interval."""
    return _grid(results, scores[scores["metric"] == metric], arms, _score_cell)


def difference_table(
    results: Results, table: pd.DataFrame, arms: list[str], metric: str, baseline: str
) -> list[dict[str, Any]]:
    """A row an arm; a cell a budget: difference, interval and verdict."""
    part = table[(table["metric"] == metric) & (table["baseline"] == baseline)]
    rows = _grid(results, part, [a for a in arms if a in set(part["arm"])], _difference_cell)
    across = set(part.loc[~part["same_encoder"].astype(bool), "arm"])
    return [{**row, "across": row["arm"] in across} for row in rows]


def ways(results: Results) -> list[dict[Any, Any]]:
    """A row an arm: what it learns from beside its budget's labels, and by which of Schaal's eight ways."""
    colours = arm_colours(results.settings.arms)
    rows = results.ways().to_dict("records")
    return [{**row, "colour": colours[row["arm"]], "other_labels": _counted(row["other_labels"])} for row in rows]


def _counted(labels: int) -> str:
    return f"{labels:,}" if labels else "–"


def _grid(results: Results, table: pd.DataFrame, arms: list[str], cell: Any) -> list[dict[str, Any]]:
    colours = arm_colours(results.settings.arms)
    found = {(r["arm"], budget_key(r["budget"])): r for r in table.to_dict("records")}
    budgets = results.settings.budgets
    return [
        {"arm": a, "colour": colours[a], "cells": [cell(found[a, b]) if (a, b) in found else None for b in budgets]}
        for a in arms
    ]


def _score_cell(row: dict[str, Any]) -> dict[str, Any]:
    return {"value": number(row["score"]), "interval": interval(row["low"], row["high"]), "draws": row["draws"]}


def _difference_cell(row: dict[str, Any]) -> dict[str, Any]:
    words = interval(row["low"], row["high"], sign=True)
    kind = kind_of(row["verdict"])
    return {"value": number(row["difference"], sign=True), "interval": words, "verdict": row["verdict"], "kind": kind}


def arms(results: Results) -> list[dict[str, Any]]:
    colours = arm_colours(results.settings.arms)
    rows: list[dict[str, Any]] = []
    for record in results.arms().astype(object).to_dict("records"):
        row: dict[str, Any] = {str(key): None if pd.isna(value) else value for key, value in record.items()}
        settings = results.settings.arms[row["arm"]].strategy_settings
        row["colour"] = colours[row["arm"]]
        row["size"] = "16 px" if row["encoder"] == "pixels" else f"{int(row['size'])} px"
        row["encoder"] = WITHOUT_ENCODER.get(row["encoder"], row["encoder"])
        if (seeds := results.settings.arms[row["arm"]].pretrain_seeds) > 1:
            row["pretrain"] = f"{row['pretrain']}, {seeds} seeds"
        row["settings"] = ", ".join(f"{k} {v}" for k, v in settings.items())
        rows.append(row)
    return rows


def cohort(results: Results) -> dict[str, Any]:
    """Who was in which part. Empty parts of a damaged or unfinished experiment are left out, not guessed."""
    facts = results.facts
    about = facts.get("cohort", {})
    parts, classes = facts.get("parts", {}), facts.get("classes", {})
    names = sorted({c for counts in classes.values() for c in counts})
    folds = results.settings.split.folds
    names_of_parts = {"pool": "pretraining", "test": f"{folds} folds"} if folds else {}
    rows = [
        {
            "part": names_of_parts.get(part, part),
            "patients": sizes.get("patients_all", sizes.get("patients", 0)),
            "labeled": sizes.get("patients", 0),
            "units": sizes.get("units", 0),
            "classes": [int(classes.get(part, {}).get(c, 0)) for c in names],
        }
        for part, sizes in sorted(parts.items(), key=lambda p: ORDER.get(p[0], 3))
        if not (folds and part == "validation")
    ]
    config = results.settings
    return {
        "name": about.get("name", config.cohort.name),
        "hash": about.get("hash", ""),
        "scans": about.get("scans"),
        "classes": names,
        "word": target_class(results.settings.target.kind_name).word,
        "rows": rows,
        "split": facts.get("split", ""),
        "split_seed": config.split.seed,
        "seed": config.seed,
        "target": config.target.name,
        "unit": config.target.unit,
    }


def savings_table(results: Results) -> list[dict[str, Any]]:
    """A row an arm; a cell a budget: how many times the labels the baseline needs, with interval."""
    return _grid(results, results.savings(), list(dict.fromkeys(results.savings()["arm"])), _savings_cell)


def _savings_cell(row: dict[str, Any]) -> dict[str, Any]:
    marks = ["" if mark == " " else mark for mark in row["beyond"]]
    words = interval(row["low"], row["high"])
    if words != NOT_ESTIMABLE:
        words = f"[{marks[1]}{row['low']:.1f}, {marks[2]}{row['high']:.1f}]"
    return {"value": f"{marks[0]}{row['factor']:.1f}", "interval": words}


def curve_table(results: Results) -> list[dict[str, str]]:
    """A row an arm: area under the curve, and the smallest budget that comes close to all labels."""
    per, colours = results.settings.per, arm_colours(results.settings.arms)
    return [
        {
            "arm": row["arm"],
            "colour": colours[row["arm"]],
            "area": number(row["area"]),
            "interval": interval(row["low"], row["high"]),
            "budget": budget_name(row["budget"], per) if pd.notna(row["budget"]) else "–",
            "surely": budget_name(row["surely"], per) if pd.notna(row["surely"]) else "–",
        }
        for row in results.curves().to_dict("records")
    ]


def tuning(results: Results) -> dict[str, Any]:
    """Of the recipes that were tried inside budgets: a row an arm and recipe; a cell a tuned budget: how often it was
    chosen, and its mean validation score. Empty where nothing was tuned."""
    budgets = results.tuned_budgets
    tried = results.trials() if budgets else None
    if tried is None or tried.empty:
        return {}
    colours, rows = arm_colours(results.settings.arms), []
    for (arm, _), part in tried.groupby(["arm", "trial"]):
        by_budget = [part[part["budget"] == budget] for budget in budgets]
        cells = [
            {"value": f"{one['chosen'].sum()} of {len(one)}", "score": number(one["score"].mean())}
            if len(one)
            else None
            for one in by_budget
        ]
        recipe = words(part["settings"].iloc[0])
        rows.append({"arm": arm, "colour": colours[str(arm)], "recipe": recipe, "cells": cells})
    order = list(results.settings.arms)
    return {
        "rows": sorted(rows, key=lambda row: order.index(row["arm"])),
        "heads": [head for head in budget_heads(results) if head["budget"] in map(str, budgets)],
        "metric": metric_name(tried["metric"].iloc[0]),
    }


def external_tables(results: Results) -> list[dict[str, Any]]:
    """For each external test cohort its scores and differences by the main metric."""
    (_, baseline, metric), (far, gaps) = results.main_comparison, results.external()
    tables = []
    for name in dict.fromkeys(far["cohort"]):
        own, mine = far[far["cohort"] == name], gaps[gaps["cohort"] == name]
        arms = list(dict.fromkeys(own["arm"]))
        tables.append(
            {
                "name": name,
                "units": int(own["units"].iloc[0]),
                "patients": int(own["patients"].iloc[0]),
                "scores": score_table(results, own, arms, metric),
                "differences": difference_table(results, mine, arms, metric, baseline),
            }
        )
    return tables


def subgroup_tables(results: Results) -> list[dict[str, Any]]:
    """For each attribute that tells test patients apart: a row a group and arm; a cell a budget."""
    tables = []
    for attribute in results.attributes():
        found, rows = results.subgroups(attribute), []
        for name in dict.fromkeys(found["group"]):
            part = found[found["group"] == name]
            size = part.iloc[0]
            about = f"{name}: {size['units']} {results.settings.target.unit}s of {size['patients']} patients"
            for row in _grid(results, part, list(dict.fromkeys(part["arm"])), _score_cell):
                rows.append({**row, "group": about})
        tables.append({"attribute": attribute.replace("_", " "), "rows": rows})
    return tables


def fixed_table(results: Results) -> list[dict[str, str]]:
    """A row a draw: the AUC of its two models, and their difference over test patients alone."""
    return [
        {
            "draw": str(row["draw"]),
            "arm": number(row["arm"]),
            "baseline": number(row["baseline"]),
            "difference": number(row["difference"], sign=True),
            "interval": interval(row["low"], row["high"], sign=True),
        }
        for row in results.fixed_models().to_dict("records")
    ]


def jobs(results: Results) -> dict[str, Any]:
    table = results.jobs()
    done = table[table["status"] == "done"]
    failed = int((table["status"] == "failed").sum())
    return {
        "all": len(table),
        "done": len(done),
        "failed": failed,
        "minutes": float(done["seconds"].fillna(0).sum()) / 60,
    }


def configuration(results: Results) -> str:
    """The config as it would be written: nothing that is left at its default, and no place of anybody's files."""
    config = results.settings.model_dump(mode="json", exclude_defaults=True)
    others = [other["cohort"] for other in config.get("others", {}).values() if other.get("cohort")]
    for source in (config["cohort"], *config.get("external", []), *others):
        source["source"] = "/path/to/scans"
        if source.get("labels"):
            source["labels"]["file"] = "/path/to/labels.csv"
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def versions() -> list[tuple[str, str]]:
    """Of the program that wrote this report."""
    found = [("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found
