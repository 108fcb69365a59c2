"""All files that an experiment leaves for people, beside its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medssl.figures import label_efficiency, save
from medssl.report.html import write_report
from medssl.report.protocol import subtitle
from medssl.workspace import write_text

if TYPE_CHECKING:
    from medssl.experiment import Results


def publish(results: Results) -> dict[str, Path]:
    """Write `report.html`, `curve.png`, `curve.svg`, `scores.csv` and `differences.csv` into the experiment's folder.

    Returns:
        the paths by `report`, `figure` (the PNG), `svg`, `scores`, `differences`.

    Raises:
        UserError: no job has finished yet.
    """
    folder, metric = results.path, results.main_comparison[2]
    scores, config = results.scores(), results.settings
    chart = label_efficiency(
        scores,
        results.label_counts(),
        metric,
        per=config.per,
        unit=config.target.unit,
        title=results.title,
        subtitle=subtitle(results),
    )
    written = {
        "figure": save(chart, folder / "curve.png"),
        "svg": save(chart, folder / "curve.svg"),
        "scores": folder / "scores.csv",
        "differences": folder / "differences.csv",
    }
    write_text(written["scores"], scores.to_csv(index=False))
    write_text(written["differences"], results.differences().to_csv(index=False))
    return {"report": write_report(results, folder / "report.html"), **written}
