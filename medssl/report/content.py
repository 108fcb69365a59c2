"""The report's words and tables, made from Results alone."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from medssl.figures import arm_colours, budget_key, budget_name, metric_name
from medssl.figures.words import NOT_ESTIMABLE, interval, number
from medssl.statistics import MANY_DRAWS, MIN_DRAWS, MIN_UNITS_A_CLASS

if TYPE_CHECKING:
    from medssl.experiment import Results

ORDER = {"pool": 0, "validation": 1, "test": 2}
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


def averaged(results: Results) -> str:
    """What a score is the mean over."""
    if not results.settings.split.folds:
        return "draws"
    return f"{results.settings.split.repeats} repeats, {results.cross_fitted}"


def subtitle(results: Results) -> list[str] | None:
    """Of the curve; None: its own."""
    if not results.settings.split.folds:
        return None
    folds = results.settings.split.folds
    return [
        f"Mean over {averaged(results)}, each by models of the other {folds - 1} folds.",
        "Bands: 95 % interval for the recipe at this number of labels. Open markers: not estimable.",
    ]


def budget_heads(results: Results) -> list[dict[str, Any]]:
    """Column heads: the budget, and the labelled units that it comes to."""
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
        row["encoder"] = "none (raw pixels)" if row["encoder"] == "pixels" else row["encoder"]
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
            "labelled": sizes.get("patients", 0),
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
        "rows": rows,
        "split": facts.get("split", ""),
        "split_seed": config.split.seed,
        "seed": config.seed,
        "target": config.target.name,
        "unit": config.target.unit,
    }


def protocol(results: Results, scores: pd.DataFrame) -> list[tuple[str, str]]:
    """How the numbers came about, in plain words; the numbers are this experiment's own."""
    config = results.settings
    unit = config.target.unit
    words = [
        ("Split", _split(results)),
        ("Budgets", _budgets(results)),
        ("Score", _score(results, scores.iloc[0])),
        (
            "What an interval means",
            f"With other labels{'' if config.split.folds else ' from this pool'}, and other test patients from the same "
            "source, the mean score would have "
            f"been another; a 95 % interval shows by how much. {_method(results)} In {config.replicates:,} bootstrap "
            f"replicates patients are resampled whole, with all their {unit}s, once for all arms and draws together. "
            "An interval is "
            "pointwise: not widened for the number of arms and budgets. It says nothing of another hospital or another "
            "split, nor, where an arm has one encoder, of another pretraining run.",
        ),
        (
            "What a difference means",
            "Arm minus baseline on the same labels and the same test patients, with its own 95 % interval. “Helps” or "
            "“hurts” is said where p, corrected by Holm’s method for all arms and budgets that were not "
            "named beforehand, is below .05: if no arm differed from the baseline, at most one experiment in twenty "
            "would show such a verdict by one metric. Each metric and each baseline has this chance of its own. The "
            "comparison of the claim, named in the configuration beforehand, stands alone and is not corrected. "
            "“No evidence” is no proof that two arms are alike.",
        ),
        (
            "Labels saved",
            "How many times as many labels the baseline needs for the score that an arm has: its curve, made to never "
            "fall, is read backwards. Where the arm lies beyond the end of that curve, only a bound is known, and > or "
            "< says so.",
        ),
        (
            "Not estimable",
            f"No interval is given with fewer than {MIN_DRAWS} {'repeats' if config.split.folds else 'draws'}, or fewer "
            f"than {MIN_UNITS_A_CLASS} {'patients' if config.split.folds else f'test {unit}s'} of a class: it would "
            "promise more than the data hold.",
        ),
    ]
    return words


def _budgets(results: Results) -> str:
    config = results.settings
    per, unit = "labels of each class" if config.per == "class" else "labels", config.target.unit
    drawn = (
        f"at most one {unit} of a patient until every patient has one, and smaller budgets lie inside larger ones. All "
        "arms get the same labels."
    )
    if config.split.folds:
        return f"“All” are all labels of the other folds; a budget of n is n {per} of these: {drawn}"
    return (
        f"A budget of n is n {per}, drawn from the pool: {drawn} "
        f"This is repeated for {config.draws} draw{'' if config.draws == 1 else 's'}; at “all” the labels are the whole "
        "pool, and a draw is a new training seed."
    )


def _score(results: Results, tested: Any) -> str:
    unit, folds = results.settings.target.unit, results.settings.split.folds
    if not folds:
        return (
            f"Each predictor is scored on the same {tested['units']} {unit}s of {tested['patients']} test patients. "
            "A score is the mean over draws."
        )
    return (
        f"Each of {tested['units']} {unit}s of {tested['patients']} patients is scored once a repeat, by the model whose "
        f"training left its fold out. A score is the mean over {averaged(results)}; an AUC compares {unit}s of one fold "
        "only, since two models have no common scale. It is the score to be expected of the recipe, "
        f"trained on about {folds - 1} of {folds} parts of these labels, and not that of one model."
    )


def _split(results: Results) -> str:
    asked = results.settings.split
    if asked.folds:
        few = " So many labels were taken for this trial; the cohort has more." if asked.labels else ""
        return (
            f"There are too few labels for a test part. The labeled patients were parted into {asked.folds} folds, "
            f"{asked.repeats} times, stratified by class; patients tied by a group or by identical images lie in one "
            "fold, and all arms met the same folds. No labeled patient, and nobody tied to one, was used for "
            f"pretraining.{few}"
        )
    if asked.hold_out:
        return (
            f"One site was left out: the test patients are all those whose {asked.column} is {asked.hold_out}, and no "
            "scan of theirs was used for pretraining or training. All others are the pool."
        )
    if asked.column:
        return (
            f"The parts are the official ones of this data set (column “{asked.column}”). Duplicates between them were "
            "not moved; `medssl audit` counts them."
        )
    return (
        "Patients were split once into pool, validation and test, the same for every experiment on this cohort. All "
        "scans of a patient, and patients tied by a group or by identical images, lie on one side."
    )


def _method(results: Results) -> str:
    if results.settings.split.folds:
        return (
            "Repeats count as the readers of a multi-reader study (Obuchowski-Rockette). The covariance over patients is "
            "doubled, since a patient enters twice: tested, and teaching the models that test the others."
        )
    if results.settings.draws >= MANY_DRAWS:
        return "It comes from a crossed bootstrap of test patients and draws."
    return (
        "Draws count as the readers of a multi-reader study (Obuchowski-Rockette, with the degrees of freedom of "
        "Hillis): few draws make it wider."
    )


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
    return yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True)


def versions() -> list[tuple[str, str]]:
    """Of the program that wrote this report."""
    found = [("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found
