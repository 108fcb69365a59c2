"""Before training: what this experiment can detect, from its config and its cohort."""

from __future__ import annotations

from typing import Any

from medssl.experiment.labels import each_stratum
from medssl.experiment.plan import Plan
from medssl.metrics import FAMILIES
from medssl.statistics import MIN_DRAWS, MIN_UNITS_A_CLASS, detectable_difference


def foresee(plan: Plan) -> dict[str, Any]:
    """What can be detected: test patients, comparisons, and differences in AUC (None: no interval is estimable).

    Returns:
        `patients` of the rarest class in the scored part, `others`, `folds` (None: one test part), `draws` (of labels,
        or repeats of the folds), `comparisons` that are exploratory, `claimed` and `explored`: the difference in AUC
        that is found in 80 % of experiments. A target without an AUC has `tested` in their place, its test patients.
    """
    config = plan.config
    scored = plan.units[plan.units["part"] == config.evaluate]
    strata = each_stratum(scored, plan.target)
    patients = strata.groupby("label")["patient"].nunique()
    units = strata["label"].value_counts()
    rarest = str(patients.idxmin())
    mine = int(patients.min())
    others = int(scored.loc[~scored["unit"].isin(strata.loc[strata["label"] == rarest, "unit"]), "patient"].nunique())
    named = 1 if config.claim and config.claim.baseline in config.baseline else 0
    comparisons = (len(config.arms) - 1) * len(config.budgets) - named  # with one baseline by one metric
    folds = config.split.folds
    draws = config.split.repeats if folds else config.draws
    about = {"patients": mine, "others": others, "folds": folds, "draws": draws, "comparisons": comparisons}
    if "auc" not in FAMILIES[plan.target.family].metrics:
        return {**about, "claimed": None, "explored": None, "tested": int(scored["patient"].nunique())}
    if draws < MIN_DRAWS or (mine if folds else int(units.min())) < MIN_UNITS_A_CLASS:
        return {**about, "claimed": None, "explored": None}
    levels = {"claimed": 0.05, "explored": 0.05 / max(1, comparisons)}
    return about | {
        name: detectable_difference(mine, others, draws, level=level, cross_fitted=bool(folds))
        for name, level in levels.items()
    }


def foresee_sentence(found: dict[str, Any]) -> str:
    """`foresee` in words."""
    if "tested" in found:
        return (
            f"{found['tested']} test patients, {found['draws']} draws. Which difference can be detected is known for "
            "the AUC alone, which this kind of target does not have."
        )
    on = f"{found['patients']} test patients in the rarest class, {found['others']} others, {found['draws']} draws"
    if found["folds"]:
        on = (
            f"{found['patients']} labeled patients in the rarest class and {found['others']} others, all tested "
            f"{found['draws']} times over in {found['folds']} folds"
        )
    if found["claimed"] is None:
        return f"With {on} no interval will be estimable, and no verdict will be given."
    return (
        f"With {on}, a difference in AUC of about {found['claimed']:.3f} named beforehand, or {found['explored']:.3f} "
        f"as one of {found['comparisons']} comparisons, is found in 4 of 5 experiments; smaller ones mostly are not."
    )
