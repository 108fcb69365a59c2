"""What the main comparison of an experiment came to, in sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medssl.statistics import (
    Replicates,
    margin_sentence,
    savings_sentence,
    share_sentence,
    verdict_sentence,
)

Results = Any  # of `medssl.experiment.results`, which imports this file


def verdicts(results: Results) -> pd.DataFrame:
    """A row a budget: columns `budget, arm, baseline, claim, verdict, sentence`."""
    arm, baseline, metric = results.main_comparison
    arms, per = results.settings.arms, results.settings.per
    table = results.differences()
    table = table[(table["baseline"] == baseline) & (table["metric"] == metric)]
    explored = int((~table["claim"] & table["p"].notna()).sum())
    table = table[table["arm"] == arm]
    once = bool(arms[arm].pretrain) and arms[arm].pretrain_seeds == 1
    how = tuple(arms[name].strategy_name for name in (arm, baseline))
    said = [
        verdict_sentence({**row, "comparisons": explored}, per, once, how, results.cross_fitted)
        for row in table.to_dict("records")
    ]
    columns = ["budget", "arm", "baseline", "claim", "verdict"]
    return table[columns].assign(sentence=said).reset_index(drop=True)


def of_claim(results: Results) -> list[str]:
    """Labels saved, how close the arm comes to the best score with all labels, and whether it is no worse: at the
    claim's budget, else the smallest."""
    arm, _, metric = results.main_comparison
    claim, per = results.settings.claim, results.settings.per
    said = []
    for table, says in ((results.savings(), savings_sentence), (results.shares(), share_sentence)):
        rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
        if claim:
            rows = rows[rows["budget"] == claim.budget]
        said += [says(row, per) for row in rows.head(1).to_dict("records")]
    return said + _margin(results)


def _margin(results: Results) -> list[str]:
    """Whether the claim's arm is no worse by the claim's margin; nothing where it has none, or an arm is not done."""
    claim = results.settings.claim
    if claim is None or not claim.margin:
        return []
    boot = Replicates(results.arrays.of_arms([claim.arm, claim.baseline]), [claim.metric], results.settings.replicates)
    pair = boot.paired((claim.arm, claim.budget, claim.metric), (claim.baseline, claim.budget, claim.metric))
    if pair is None:
        return []
    gain = boot.gain(claim.metric, *pair)
    return [margin_sentence(claim.arm, claim.baseline, claim.metric, claim.margin, gain)]
