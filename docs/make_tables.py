"""Print the Markdown tables that the README shows, from finished experiments.

python docs/make_tables.py WORKSPACE kermany_cxr busi
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from medssl import Results, Workspace


def table(results: Results) -> str:
    """Scores of the main metric, arms down and budgets across; under it the verdicts of the main comparison, and what
    the other arms of the baseline's encoder differ from it by."""
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
    sentences = [f"- {sentence}" for sentence in [*results.verdicts()["sentence"], *results.claim_sentences()]]
    return "\n".join([*lines, "", *sentences, "", *_beside(results)])


def _beside(results: Results) -> list[str]:
    arm, baseline, metric = results.main_comparison
    table = results.differences()
    table = table[(table["metric"] == metric) & (table["baseline"] == baseline) & table["same_encoder"].astype(bool)]
    budgets = results.settings.budgets
    lines = [f"| minus `{baseline}` | " + " | ".join(str(b) for b in budgets) + " |", "|---" * (len(budgets) + 1) + "|"]
    for other in (name for name in results.settings.arms if name not in (arm, baseline)):
        part = table[table["arm"] == other]
        if len(part):
            lines.append(f"| `{other}` | " + " | ".join(_difference(part[part["budget"] == b]) for b in budgets) + " |")
    return lines


def _difference(row: pd.DataFrame) -> str:
    if row.empty:
        return ""
    one = row.iloc[0]
    interval = "n/e" if pd.isna(one["low"]) else f"{one['low']:+.3f}, {one['high']:+.3f}"
    return f"{one['difference']:+.3f} [{interval}]".replace("0.", ".")


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
