"""The curve relative to one arm: paired differences against number of labels, with their bands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from medssl.config import LOWER_IS_BETTER
from medssl.figures.curve import label_efficiency
from medssl.figures.style import Theme
from medssl.figures.words import budget_key


def relative(
    differences: pd.DataFrame,
    scores: pd.DataFrame,
    label_counts: Mapping[Any, int],
    metric: str,
    baseline: str,
    arms: Sequence[str] | None = None,
    *,
    per: str = "class",
    unit: str = "image",
    title: str = "",
    width: int | Literal["container"] = 640,
    height: int = 380,
    theme: Theme = "light",
    log: bool = True,
    everyone: Iterable[str] | None = None,
) -> alt.LayerChart:
    """Arm minus baseline against labels: zero is the baseline, whose own chance is in every band.

    Args:
        differences: `Results.differences()`, or `Results.against(baseline)`.
        scores: `Results.scores()`, for the numbers of draws, units and patients.
        label_counts, metric, arms, per, unit, title, width, height, theme, log, everyone: as for `label_efficiency`.

    Raises:
        UserError: nothing to draw for this metric, baseline and these arms.
    """
    found = differences[(differences["baseline"] == baseline) & (differences["metric"] == metric)]
    sizes = scores[["arm", "budget", "metric", "draws", "units", "patients"]]
    keyed = [frame.assign(key=frame["budget"].map(budget_key).map(str)) for frame in (found, sizes)]
    frame = keyed[0].merge(keyed[1].drop(columns="budget"), on=["arm", "key", "metric"], how="inner")
    ahead = "below" if metric in LOWER_IS_BETTER else "above"
    lines = [
        f"Paired on the same draws and test patients; {ahead} zero the arm is ahead of {baseline}.",
        "Bands: 95 % interval of the difference, one by one. Open markers: not estimable.",
    ]
    return label_efficiency(
        frame.rename(columns={"difference": "score"}),
        label_counts,
        metric,
        arms,
        per=per,
        unit=unit,
        title=title,
        subtitle=lines,
        width=width,
        height=height,
        theme=theme,
        log=log,
        relative_to=baseline,
        everyone=[*scores["arm"]] if everyone is None else everyone,
    )
