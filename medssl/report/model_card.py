"""The model card (Mitchell 2019) of a predictor that is taken away, with its arm's figures out of the Results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medssl.experiment import Results
from medssl.experiment.tuning import words
from medssl.figures import budget_key, budget_name, metric_name
from medssl.figures.words import interval, number
from medssl.report.protocol import averaged

if TYPE_CHECKING:
    from medssl.config import Budget
    from medssl.experiment.predictor import Predictor

CARD = """# {arm} of {experiment}: {classes}

Predicts `{target}` for each {unit} as {what}. Made by `medssl refit` from the experiment "{title}".

## Intended use

Research on scans like those of the training cohort below: scores of units, to be read together with the findings that
`medssl predict` writes beside them. **It is no medical device.** It was not tested for diagnosis, triage or any other
decision about a patient, and it gives no segmentation.

## Training cohort

- Cohort `{cohort}` (hash {hash}). {taught}
- Scans of the patients whose pictures it could see: {scans} of {patients} patients; modality {modality}; kind {kind};
  values in {value_unit}.
- View: {view}.
- Recipe: encoder {encoder}, strategy {strategy}. {recorded}

## Figures

{figures}

## Calibration

{calibration}

## Limits

- {unlike}
- Scans of another site, scanner or population than the cohort's may be scored worse, and no finding need say so.
- {known_only}
{notes}

## Versions

{versions}; code {revision}.
"""

WHAT = {  # by the family of the target's metrics
    "classification": "one of {}",
    "multilabel": "any of {}, each with a probability of its own",
    "ordinal": "one of the grades {}, lowest first",
    "regression": "a number",
}
KNOWN_ONLY = "The classes are all that it knows: a scan that shows something else is given one of them."
NOTHING_ELSE = "It knows nothing but this target: of whatever else a scan shows it says nothing."


def model_card(predictor: Predictor, results: Results) -> str:
    """The card as Markdown.

    Raises:
        UserError: no job of the experiment has finished.
    """
    about, known = predictor.about, predictor.known
    labels, calibration = about.labels, about.calibration
    whose = "all labels of the cohort" if labels.every else budget_name(labels.budget, results.settings.per)
    counted = f"Fitted on {labels.units} labeled {about.target.unit}s of {labels.patients} patients ({whose}"
    far = f"Whether an embedding lies far from the training cohort's is {known.distance_from}."
    if known.distance is not None:
        far = (
            f"An embedding further out than {known.distance:.1f} is reported: 99th percentile of {known.distance_from}."
        )
    temperature = f" Temperature {calibration.temperature:.2f}, from {calibration.units} {about.target.unit}s."
    return CARD.format(
        arm=about.arm,
        experiment=about.experiment,
        title=results.title,
        target=about.target.name,
        unit=about.target.unit,
        classes=", ".join(about.classes) or about.target.name,
        what=WHAT[predictor.target.family].format(", ".join(about.classes)),
        known_only=KNOWN_ONLY if predictor.target.one_of else NOTHING_ELSE,
        cohort=about.cohort["name"],
        hash=about.cohort["hash"],
        taught=f"{counted}{'' if labels.every else f', draw {labels.draw}'}).",
        scans=known.scans,
        patients=known.patients,
        modality=_counts(known.modality),
        kind=_counts(known.kind),
        value_unit=_counts(known.unit),
        view=", ".join(f"{key} {value}" for key, value in about.view.model_dump(exclude_none=True).items()),
        encoder=f"`{about.encoder}` ({about.recipe['encoder']})",
        strategy=f"`{about.recipe['arm']['strategy']}`{_chosen(about.recipe)}",
        recorded=_recorded(predictor),
        figures=_figures(predictor, results),
        calibration=calibration.rule + (temperature if calibration.units else ""),
        unlike=far,
        notes="\n".join(f"- {note}" for note in results.notes),
        versions=", ".join(f"{name} {version}" for name, version in about.versions.items()),
        revision=about.revision,
    )


def write_predictor(
    experiment: str | Path, arm: str, out: str | Path, budget: Budget = "all", draw: int = 0, all_labels: bool = False
) -> Predictor:
    """Refit an arm, and save it with its card; see `medssl.experiment.predictor.refit` and `Predictor.save`.

    Args:
        experiment: its folder.
        out: folder of the predictor.

    Raises:
        UserError: all of both.
    """
    from medssl.experiment.predictor import refit

    results = Results.open(experiment)
    predictor = refit(results, arm, budget, draw, all_labels)
    predictor.save(out, model_card(predictor, results))
    return predictor


def _chosen(recipe: dict[str, Any]) -> str:
    """Which of the recipes that were tried it is; empty where none were."""
    return f" (tuned by a part of its own labels: {words(recipe['chosen'])})" if "chosen" in recipe else ""


def _recorded(predictor: Predictor) -> str:
    if predictor.about.labels.job:
        return f"The same as job {predictor.about.labels.job} of the experiment, whose scores it reproduces."
    return "The experiment has no job that was fitted on these labels with this version of the code."


def _figures(predictor: Predictor, results: Results) -> str:
    """Scores and differences of the arm at this budget, with the sentence that says whose they are."""
    about, labels = predictor.about, predictor.about.labels
    scores, gaps = (_mine(t, about.arm, labels.budget) for t in (results.scores(), results.differences()))
    if scores.empty:
        return f"The experiment has no figures with {budget_name(labels.budget, results.settings.per)}."
    part = "validation" if results.settings.evaluate == "validation" else "test"
    lines = [
        f"On the {part} patients, mean over {averaged(results)}, with 95 % intervals: they belong to the recipe with "
        f"{budget_name(labels.budget, results.settings.per)}, and this predictor is one of its fits."
    ]
    if labels.every:
        lines = [
            f"**These are not figures of this predictor**, which was fitted on all labels, those of the {part} "
            f"patients too, so that nobody is left to test it on. They are those of the same arm fitted on fewer "
            f"({budget_name('all', results.settings.per)} of the pool), on the {part} patients, mean over "
            f"{averaged(results)}, with 95 % intervals."
        ]
    lines += ["", "| figure | value | interval | units | patients |", "|---|---|---|---|---|"]
    for row in scores.to_dict("records"):
        value = f"{number(row['score'])} | {interval(row['low'], row['high'])}"
        lines.append(f"| {metric_name(row['metric'], long=True)} | {value} | {row['units']} | {row['patients']} |")
    for row in gaps.to_dict("records"):
        value = f"{number(row['difference'], True)} | {interval(row['low'], row['high'], True)}"
        lines.append(f"| {metric_name(row['metric'])} minus {row['baseline']} ({row['verdict']}) | {value} | | |")
    return "\n".join([*lines, *_external(predictor, results)])


def _external(predictor: Predictor, results: Results) -> list[str]:
    far = _mine(results.external()[0], predictor.about.arm, predictor.about.labels.budget)
    return [
        f"| {metric_name(row['metric'])} on `{row['cohort']}` | {number(row['score'])} | "
        f"{interval(row['low'], row['high'])} | {row['units']} | {row['patients']} |"
        for row in far.to_dict("records")
    ]


def _mine(table: pd.DataFrame, arm: str, budget: Budget) -> pd.DataFrame:
    return table[(table["arm"] == arm) & (table["budget"].map(budget_key) == budget)]


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(values.items(), key=lambda v: -v[1]))
