"""Write the tables of real experiments: whole ones into docs/results.md, short ones into the README where it has marks.

    python docs/make_tables.py WORKSPACE kermany_cxr busi

Both files hold text that people write; the tables stand between marks, one pair an experiment. All figures of the main
metric are kept in benchmarks/results/run_NAME.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd

from medssl import Results, Workspace
from medssl.workspace import code_revision

ROOT = Path(__file__).parents[1]


def short(results: Results) -> str:
    """The claimed arm, the baselines and ImageNet at its native size, and what the claim came to."""
    arm, _, _ = results.main_comparison
    native = [name for name in results.settings.arms if name.startswith("imagenet_224")]
    verdict = next(s for s in results.verdicts()["sentence"] if "named beforehand" in s)
    sentences = [verdict, *results.claim_sentences()]
    return "\n".join(
        [*score_lines(results, [*results.settings.baseline, *native, arm]), "", *(f"- {s}" for s in sentences)]
    )


def whole(results: Results) -> str:
    """All arms; the verdicts of the main comparison; what other arms of the baseline's encoder differ from it by."""
    sentences = [f"- {sentence}" for sentence in [*results.verdicts()["sentence"], *results.claim_sentences()]]
    return "\n".join([*score_lines(results, list(results.settings.arms)), "", *sentences, "", *_beside(results)])


def score_lines(results: Results, shown: list[str]) -> list[str]:
    """Scores of the main metric, arms down and budgets across."""
    scores = results.scores()
    scores = scores[scores["metric"] == results.main_comparison[2]]
    arms = results.arms().set_index("arm")
    budgets = results.settings.budgets
    lines = [
        "| arm | encoder, input | " + " | ".join(str(b) for b in budgets) + " |",
        "|---" * (len(budgets) + 2) + "|",
    ]
    for arm in shown:
        about = arms.loc[arm]
        encoder = "16 x 16 pixels" if about["encoder"] == "pixels" else f"{about['encoder']}, {about['size']} px"
        cells = [_cell(scores[(scores["arm"] == arm) & (scores["budget"] == b)]) for b in budgets]
        lines.append(f"| `{arm}` ({about['strategy']}) | {encoder} | " + " | ".join(cells) + " |")
    return lines


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
    return without_zeros(f"{one['difference']:+.3f} [{interval}]")


def _cell(row: pd.DataFrame) -> str:
    if row.empty:
        return ""
    one = row.iloc[0]
    interval = "n/e" if pd.isna(one["low"]) else f"{one['low']:.3f}-{one['high']:.3f}"
    return without_zeros(f"{one['score']:.3f} ({interval})")


def without_zeros(text: str) -> str:
    """`.812` for `0.812`; the zero in `10.812` stays."""
    return re.sub(r"(?<!\d)0\.", ".", text)


def put(file: Path, name: str, text: str) -> bool:
    """Between the marks of that name; False where there are none."""
    pattern = re.compile(f"(<!-- {name} -->\n).*?(\n?<!-- /{name} -->)", re.DOTALL)
    before = file.read_text()
    file.write_text(pattern.sub(lambda found: found[1] + text + "\n" + found[2].lstrip("\n"), before))
    return pattern.search(before) is not None


def keep(results: Results) -> None:
    """The figures of the main metric, five digits each, a row a line."""
    metric, about = results.main_comparison[2], {"command": f"medssl run {results.name} --json"}
    tables = {"scores": results.scores(), "differences": results.differences(), "savings": results.savings()}
    tables["shares"] = results.shares()
    parts = [f'"{key}":{json.dumps(value)}' for key, value in (about | {"code": code_revision(".")}).items()]
    for name, table in tables.items():
        rows = table[table["metric"] == metric].to_dict("records")
        lines = [json.dumps({key: _rounded(value) for key, value in row.items()}) for row in rows]
        parts.append(f'"{name}":[' + ",\n".join(lines) + "]")
    (ROOT / "benchmarks" / "results" / f"run_{results.name}.json").write_text("{" + ",\n".join(parts) + "}\n")


def _rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return None if pd.isna(value) else round(value, 5)


if __name__ == "__main__":
    workspace = Workspace(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        results = Results.open(workspace.experiment(name))
        put(ROOT / "README.md", name, short(results))
        if not put(ROOT / "docs" / "results.md", name, whole(results)):
            sys.exit(f"docs/results.md has no marks <!-- {name} --> and <!-- /{name} -->")
        keep(results)
