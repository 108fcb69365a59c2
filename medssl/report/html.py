"""The HTML report: one file that stands alone, without scripts and without requests."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from medssl.figures import differences, history, label_efficiency, metric_name, to_svg
from medssl.report import content
from medssl.report.protocol import averaged, protocol, subtitle
from medssl.workspace import write_text

if TYPE_CHECKING:
    from medssl.experiment import Results


def write_report(results: Results, path: Path | str) -> Path:
    """Write the report, whole or not at all.

    Raises:
        UserError: no job has finished yet.
    """
    path = Path(path)
    write_text(path, render_report(results))
    return path


def render_report(results: Results) -> str:
    """The report as HTML text."""
    scores, table = results.scores(), results.differences()
    config = results.settings
    metrics = [m for m in config.metrics if m in set(scores["metric"])]
    main = results.main_comparison[2]
    arms = [a for a in config.arms if a in set(scores["arm"])]
    baselines = [b for b in config.baseline if b in set(table["baseline"])]
    return _template().render(
        style=Markup(resources.files("medssl").joinpath("page.css").read_text(encoding="utf-8")),
        title=results.title,
        name=results.name,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        complete=results.complete,
        notes=results.notes,
        verdicts=content.verdicts(results),
        claim=content.claim(results),
        saved=results.claim_sentences(),
        savings=content.savings_table(results),
        curves=content.curve_table(results),
        fixed=content.fixed_table(results),
        tuning=content.tuning(results),
        subgroups=content.subgroup_tables(results),
        external=content.external_tables(results),
        compared=results.main_comparison,
        curve=_curve(results, main),
        difference_charts=[_difference(results, main, b) for b in baselines],
        score_tables=[(metric_name(m, long=True), content.score_table(results, scores, arms, m)) for m in metrics],
        difference_tables=[
            (metric_name(m), b, content.difference_table(results, table, arms, m, b))
            for b in baselines
            for m in metrics
        ],
        across=bool(len(table)) and not table["same_encoder"].astype(bool).all(),
        budgets=content.budget_heads(results),
        arms=content.arms(results),
        ways=content.ways(results),
        way_of={row["arm"]: row["way"] for row in content.ways(results)},
        cohort=content.cohort(results),
        protocol=protocol(results, scores),
        histories=_histories(results),
        looks=results.looks(),
        jobs=content.jobs(results),
        configuration=content.configuration(results),
        versions=content.versions(),
        unit=config.target.unit,
        per=config.per,
        averaged=averaged(results),
    )


@lru_cache(1)
def _template() -> Any:
    source = resources.files("medssl.report").joinpath("template.html").read_text(encoding="utf-8")
    # everything that comes from data is escaped; only the charts' SVG, which Vega has escaped, goes in as it is
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )


def _curve(results: Results, metric: str) -> Markup:
    config = results.settings
    chart = label_efficiency(
        results.scores(),
        results.label_counts(),
        metric,
        per=config.per,
        unit=config.target.unit,
        subtitle=subtitle(results),
        width=600,
        height=380,
    )
    return inline(to_svg(chart), "curve", "Score against number of labels, a line for each arm")


def _difference(results: Results, metric: str, baseline: str) -> Markup:
    place = results.settings.baseline.index(baseline)
    chart = differences(results.differences(), metric, baseline, per=results.settings.per, width=745, height=250)
    return inline(to_svg(chart), f"difference-{place}", f"Differences to {baseline} at each budget")


def _histories(results: Results) -> Markup | None:
    logs = {name: log for name, log in results.histories().items() if "loss" in log and log["loss"].notna().any()}
    return inline(to_svg(history(logs)), "history", "Loss over steps of each pretraining run") if logs else None


def inline(svg: str, prefix: str, label: str) -> Markup:
    """An SVG for a page: it scales with the page, has no paper of its own, and shares no id with other charts."""
    svg = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)" height="[\d.]+"',
        rf'\1 role="img" aria-label="{escape(label)}" style="max-width: \2px"',
        svg,
        count=1,
    )
    svg = re.sub(r'<rect width="[\d.]+" height="[\d.]+" fill="#ffffff"/?>(</rect>)?', "", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    return Markup(svg)  # drawn by vl-convert, which escapes text
