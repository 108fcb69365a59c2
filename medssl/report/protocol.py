"""How the numbers came about, in words: of the report, the curve and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from medssl.experiment.tuning import LEAST, listed
from medssl.metrics import FAMILIES
from medssl.statistics import MANY_DRAWS, MIN_DRAWS, MIN_UNITS_A_CLASS

if TYPE_CHECKING:
    from medssl.experiment import Results

EVENLY = {  # by the family of the target's metrics
    "multilabel": " Each label has its share among them, the rare ones too (iterative stratification).",
    "regression": " The low, middle and high third of the cohort’s values have their shares among them.",
}


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


def protocol(results: Results, scores: pd.DataFrame) -> list[tuple[str, str]]:
    """How the numbers came about, in plain words; the numbers are this experiment's own."""
    config = results.settings
    unit = config.target.unit
    words = [
        ("Split", _split(results)),
        ("Budgets", _budgets(results)),
        ("Recipes", _recipes(results)),
        ("Score", _score(results, scores.iloc[0])),
        (
            "What an interval means",
            f"With other labels{'' if config.split.folds else ' from this pool'}, and other test patients from the "
            "same source, the mean score would have been another; a 95 % interval shows by how much. "
            f"{_method(results)} In {config.replicates:,} bootstrap "
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
            f"No interval is given with fewer than {MIN_DRAWS} {'repeats' if config.split.folds else 'draws'}, or "
            f"fewer than {MIN_UNITS_A_CLASS} {'patients' if config.split.folds else f'test {unit}s'} "
            f"{FAMILIES[results.family].group_words}: it "
            "would promise more than the data hold.",
        ),
    ]
    return words


def _budgets(results: Results) -> str:
    config = results.settings
    per, unit = "labels of each class" if config.per == "class" else "labels", config.target.unit
    drawn = (
        f"at most one {unit} of a patient until every patient has one, and smaller budgets lie inside larger ones. All "
        f"arms get the same labels.{EVENLY.get(results.family, '')}"
    )
    if config.split.folds:
        return f"“All” are all labels of the other folds; a budget of n is n {per} of these: {drawn}"
    return (
        f"A budget of n is n {per}, drawn from the pool: {drawn} "
        f"This is repeated for {config.draws} draw{'' if config.draws == 1 else 's'}; at “all” the labels are the "
        "whole pool, and a draw is a new training seed."
    )


def _recipes(results: Results) -> str:
    """Who chose each arm's settings, and on which labels."""
    tuning, budgets = results.settings.tuning, results.tuned_budgets
    fixed = "Each arm has one recipe, fixed in the configuration, at every budget"
    if tuning is None:
        return f"{fixed}; none was chosen by the labels of this experiment."
    if not budgets:
        return f"{fixed}: recipes are chosen with {LEAST} labels of each class or more, and no budget has so many."
    return (
        f"With {listed(budgets)} labels, every arm tries {tuning.trials} recipes in each job on "
        f"{100 * tuning.validation:.0f} % of the budget’s own labels, patients whole, and fits the best again on all "
        f"of them, so labels for choosing count as labels. At smaller budgets, with fewer than {LEAST} of a class, "
        "each arm’s own recipe is used. Test patients choose nothing."
    )


def _score(results: Results, tested: Any) -> str:
    unit, folds = results.settings.target.unit, results.settings.split.folds
    if not folds:
        return (
            f"Each predictor is scored on the same {tested['units']} {unit}s of {tested['patients']} test patients. "
            "A score is the mean over draws."
        )
    pairs = f"; an AUC compares {unit}s of one fold only, since two models have no common scale"
    return (
        f"Each of {tested['units']} {unit}s of {tested['patients']} patients is scored once a repeat, by the model "
        f"whose training left its fold out. A score is the mean over {averaged(results)}"
        f"{pairs if 'auc' in results.settings.metrics else ''}. It is the score to be expected of the recipe, "
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
            "Repeats count as the readers of a multi-reader study (Obuchowski-Rockette). The covariance over patients "
            "is doubled, since a patient enters twice: tested, and teaching the models that are tested on the others."
        )
    if results.settings.draws >= MANY_DRAWS:
        return "It comes from a crossed bootstrap of test patients and draws."
    return (
        "Draws count as the readers of a multi-reader study (Obuchowski-Rockette, with the degrees of freedom of "
        "Hillis): few draws make it wider."
    )
