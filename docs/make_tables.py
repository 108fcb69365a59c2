"""Print the Markdown tables that the README shows, from finished experiments.

python docs/make_tables.py WORKSPACE kermany_cxr busi
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from medssl import Results, Workspace


def table(results: Results) -> str:
    """Scores of the main metric, arms down and budgets across; under it the verdicts of the main comparison."""
    scores = results.scores()
    scores = scores[scores["metric"] == results.main_comparison[2]]
    arms = results.arms().set_index("arm")
    budgets = results.settings.budgets
    lines = [
        "| arm | encoder, input | " + " | ".join(str(b) for b in budgets) + " |",
        "|---" * (len(budgets) + 2) + "|",
    ]
    for arm in arms.index:
        about = arms.loc[arm]
        encoder = "16 x 16 pixels" if about["encoder"] == "pixels" else f"{about['encoder']}, {about['size']} px"
        cells = [_cell(scores[(scores["arm"] == arm) & (scores["budget"] == b)]) for b in budgets]
        lines.append(f"| `{arm}` ({about['strategy']}) | {encoder} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in results.verdicts()["sentence"])])


def _cell(row: pd.DataFrame) -> str:
    if row.empty:
        return ""
    one = row.iloc[0]
    interval = "n/e" if pd.isna(one["low"]) else f"{one['low']:.3f}-{one['high']:.3f}"
    return f"{one['score']:.3f} ({interval})".replace("0.", ".")


if __name__ == "__main__":
    workspace = Workspace(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        print(f"### {name}\n\n{table(Results.open(workspace.experiment(name)))}\n")
