"""Scores as plain text: arms down, budgets across, the interval under each score."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from medssl.figures import budget_key, metric_name
from medssl.report.protocol import averaged

if TYPE_CHECKING:
    from medssl.experiment import Results


def terminal_table(results: Results) -> str:
    """The main metric's scores; fits 80 columns with six budgets and names of up to 15 letters."""
    metric = results.main_comparison[2]
    table = results.scores()
    table = table[table["metric"] == metric]
    budgets = [b for b in results.settings.budgets if b in set(table["budget"].map(budget_key))]
    counts = results.label_counts()
    per = "a class" if results.settings.per == "class" else "in total"
    rows: list[list[str]] = [[f"labels {per}", *map(str, budgets)]]
    rows.append([f"{results.settings.target.unit}s in total", *(str(counts.get(b, "")) for b in budgets)])
    lines: list[int] = [len(rows)]  # where a rule goes
    for arm in table["arm"].unique():
        cells = [_cell(table, arm, b) for b in budgets]
        rows += [[arm, *(score for score, _ in cells)], ["", *(interval for _, interval in cells)]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(budgets) + 1)]
    text = [
        " ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    for at in lines:
        text.insert(at, "-" * len(text[0]))
    heading = (
        f"{metric_name(metric, long=True)}, mean over {averaged(results)}, 95 % interval below (n/e: not estimable)"
    )
    return "\n".join([heading, *(line.rstrip() for line in text), *_ways(results, len(text[0]))])


def _ways(results: Results, width: int) -> list[str]:
    """What each arm learns from beside its labels, in lines no longer than the table."""
    lines = ["Learnt beside the labels:"]
    for row in results.ways().to_dict("records"):
        if row["source"]:
            labels = f" ({row['other_labels']:,} other labels)" if row["other_labels"] else ""
            words = f"{row['arm']}: {row['source']}{labels}: {row['way']}"
            lines += textwrap.wrap(words, max(width, 50), initial_indent="  ", subsequent_indent="    ")
    return lines if len(lines) > 1 else []


def _cell(table: pd.DataFrame, arm: str, budget: Any) -> tuple[str, str]:
    found = table[(table["arm"] == arm) & (table["budget"].map(budget_key) == budget)]
    if found.empty:
        return "", ""
    row = found.iloc[0]
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return f"{row['score']:.3f}", "n/e"
    between = "-" if row["low"] >= 0 else " to "
    return f"{row['score']:.3f}", f"{short(row['low'])}{between}{short(row['high'])}"


def short(value: float) -> str:
    """Three decimals, without the zero before the point."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text
