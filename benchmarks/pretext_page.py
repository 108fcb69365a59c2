"""The rows of `pretext_table.py` as Markdown, and `docs/pretext_tasks.md` around them.

    python benchmarks/pretext_page.py    # write the page anew from the rows that are there, and from the tasks

The page holds text that people write and four parts between marks, `table`, `trials`, `shortcuts` and `tasks`, which
are made from the rows, from the trials of `pretext_trials.py`, from the lines of `pretext_shortcuts.py`, and from what
every task says of itself in its file.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from pretext_sets import BATCH, SETS, SIZE

from medssl.config import settings_for
from medssl.pretext import PretextTask, tasks
from medssl.pretext.base import counted
from medssl.workspace import write_text

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "pretext_tasks.md"
WORDS = {
    "image": "single images",
    "stack": "stacks of slices with positions in mm",
    "exam": "several images of an exam",
}
BASELINES = {"autoencoder", "denoising"}  # kept for comparison; nobody expects them to help


def write_page() -> Path:
    """`docs/pretext_tasks.md` from all finished rows and all trials in `benchmarks/results`."""
    kept = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("pretext_*.json"))]
    rows = [row for row in kept if isinstance(row, dict) and row.get("status") == "finished"]
    trials = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("trials_*.json"))}
    lines = RESULTS / "pretext_shortcuts.json"
    write_text(PAGE, page(PAGE.read_text(), rows, trials, json.loads(lines.read_text()) if lines.is_file() else []))
    return PAGE


def table(rows: list[dict[str, Any]], trials: dict[str, list[dict[str, Any]]] | None = None) -> str:
    """A table a set and start, best frozen score first, with what follows from it in sentences; then small batches."""
    parts = []
    for place, known in SETS.items():
        for imagenet in (False, True):
            own = [row for row in rows if row["what"]["set"] == place and _start(row) == (imagenet, False)]
            if own:
                own.sort(key=lambda row: -row["scores"]["frozen"][0])
                tuned = {stem.removeprefix(f"trials_{place}_") for stem in trials or {}} | set(known.tuned)
                said = "\n".join(f"- {s}" for s in sentences(own, tuned))
                parts.append(_set_table(place, known.about, own) + "\n\n" + said)
    if small := _small(rows):
        parts.append(small)
    return "\n\n".join(parts) or "No row has been measured yet."


def _start(row: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a row starts from ImageNet, and whether its batch or its pool is unlike that of the tables."""
    what = row["what"]
    return bool(what.get("imagenet")), what.get("batch", BATCH) != BATCH or what.get("pool") is not None


def _small(rows: list[dict[str, Any]]) -> str:
    """What batch and number of scans do to each task: frozen scores and their difference from random features."""
    tried = [row for row in rows if _start(row)[1] and not _start(row)[0]]
    beside = {(row["what"]["task"], row["what"]["set"]) for row in tried}
    tried += [
        row for row in rows if _start(row) == (False, False) and (row["what"]["task"], row["what"]["set"]) in beside
    ]
    if not tried:
        return ""
    kinds = sorted({_kind(row) for row in tried}, key=lambda kind: (kind[0] or 10**9, kind[1]))
    heads = [f"{f'{pool:,} scans' if pool else 'all scans'}, batch {batch}" for pool, batch in kinds]
    lines = ["### Small cohort, small batch", "", "Frozen, and minus the random features of the same encoder.", ""]
    lines += [f"| task | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for task, place in sorted(beside):
        cells = {_kind(row): row for row in tried if (row["what"]["task"], row["what"]["set"]) == (task, place)}
        shown = [
            f"{cells[kind]['scores']['frozen'][0]:.3f}, {_gap(cells[kind]['minus']['random'])}".replace("0.", ".", 1)
            if kind in cells
            else ""
            for kind in kinds
        ]
        lines.append(f"| `{task}` on {place} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _kind(row: dict[str, Any]) -> tuple[int | None, int]:
    return row["what"].get("pool"), row["what"].get("batch", BATCH)


def _set_table(place: str, about: str, rows: list[dict[str, Any]]) -> str:
    what, first = rows[0]["what"], rows[0]
    imagenet, start = what.get("imagenet"), "ImageNet" if what.get("imagenet") else "random"
    head = (
        f"| task | frozen | minus {start} features | minus pixels | finetuned | "
        f"minus {'ImageNet finetuned' if imagenet else 'scratch'} | pretext task | images/s |"
    )
    lines = [
        f"### {place}" + (", from ImageNet" if imagenet else ""),
        "",
        f"{about[0].upper()}{about[1:]}. Macro AUC at {what['labels']} labels a class over {what['draws']} draws, 95 % "
        f"intervals; {what['minutes']:g} minutes of pretraining a task.",
        "",
        head,
        "|---" * 8 + "|",
        f"| raw 16 x 16 pixels | {_score(first['scores']['pixels'])} | | | | | | |",
    ]
    for name, score in first["scores"].items():
        if name.startswith("imagenet"):
            size = name.partition("_")[2] or SIZE
            lines.append(f"| ImageNet, frozen, {size} px | {_score(score)} | | | | | | |")
    for encoder in [] if imagenet else sorted({row["what"]["encoder"] for row in rows}):
        scores = next(row["scores"] for row in rows if row["what"]["encoder"] == encoder)
        random, scratch = _score(scores["random"]), _score(scores["scratch"])
        lines.append(f"| `{encoder}`, random or from scratch | {random} | | | {scratch} | | | |")
    for row in rows:
        minus, reached = row["minus"], row["pretext"]
        encoder = row["what"]["encoder"]
        name = f"`{row['what']['task']}`" + (f" ({encoder})" if encoder != "small" else "")
        pretext = f"{reached['measure']} {_short(reached['value'])} (floor {_short(reached['floor'])})"
        cells = [
            name,
            _score(row["scores"]["frozen"]),
            _gap(minus["random"]),
            _gap(minus["pixels"]),
            _score(row["scores"]["finetuned"]),
            _gap(minus["scratch"]),
            pretext,
            f"{row['images_per_second']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sentences(rows: list[dict[str, Any]], tuned_here: set[str]) -> list[str]:
    """What the rows of one set say, best frozen score first; some tasks were tuned on this set's validation part."""
    name = lambda row: f"`{row['what']['task']}`"  # noqa: E731
    beats = [name(row) for row in rows if above(row["minus"]["random"])]
    others = [name(row) for row in rows if not above(row["minus"]["random"])]
    pixels = [name(row) for row in rows if row["minus"]["pixels"][0] > 0]
    tuned = [name(row) for row in rows if above(row["minus"]["scratch"])]
    versions, imagenet = {row["code"] for row in rows}, rows[0]["what"].get("imagenet")
    than = "ImageNet features of the same encoder" if imagenet else "the random features of their own encoder"
    out = [
        f"Better than {than}, the interval excluding 0: {_list(beats)}; not: {_list(others)}.",
        f"Above raw pixels by point estimate: {_list(pixels)}.",
        f"Finetuned better than {'ImageNet finetuned' if imagenet else 'from scratch'}, the interval excluding 0: "
        f"{_list(tuned)}.",
    ]
    if not imagenet and any("imagenet" in row["minus"] for row in rows):
        ahead = [name(row) for row in rows if row["minus"].get("imagenet", [0])[0] > 0]
        out.append(f"Above frozen ImageNet features at the same input size by point estimate: {_list(ahead)}.")
    if own := [name(row) for row in rows if row["what"]["task"] in tuned_here]:
        out.append(f"Tuned on validation patients of this set, so that their rows here confirm nothing: {_list(own)}.")
    if len(versions) > 1:
        out.append(f"These rows were measured with {len(versions)} versions of medssl.")
    return out


def tried(trials: dict[str, list[dict[str, Any]]]) -> str:
    """One line a trial, by task; the stem of a file is `trials_SET_TASK`."""
    lines = ["| task | set | unlike today's settings | frozen | minus random features |", "|---" * 5 + "|"]
    for stem, made in trials.items():
        place = next(place for place in sorted(SETS, key=len, reverse=True) if stem.startswith(f"trials_{place}_"))
        task = stem.removeprefix(f"trials_{place}_")
        today = settings_for("task", task, SETS[place].settings).model_dump(mode="json")
        for trial in made:
            unlike = {key: value for key, value in trial["settings"].items() if value != today.get(key)}
            changes = f"`{json.dumps(unlike)}`" if unlike else "none"
            cells = f"`{task}`", place, changes, _score(trial["score"]), _gap(trial["minus_random"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if trials else "None yet."


def opened(lines: list[dict[str, Any]]) -> str:
    """One line a shortcut: the pretext task shut and open, and what the features gained."""
    heads = "| shortcut | task | set | opened by | pretext task, shut | open | frozen, open minus shut |"
    out = [heads, "|---" * 7 + "|"]
    for line in lines:
        shut, open_ = (f"{line['figure']} {_short(line['pretext'][arm])}" for arm in ("shut", "open"))
        changes = f"`{json.dumps(line['changes'])}`"
        cells = line["shortcut"], f"`{line['task']}`", line["set"], changes, shut, open_, _gap(line["open_minus_shut"])
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out) if lines else "None yet."


def above(gap: list[float | None]) -> bool:
    """Whether a difference's interval lies above 0."""
    return gap[1] is not None and gap[1] > 0


def page(
    text: str,
    rows: list[dict[str, Any]],
    trials: dict[str, list[dict[str, Any]]],
    shortcuts: list[dict[str, Any]] | None = None,
) -> str:
    """The page with its four parts made anew."""
    made = {"tasks": "\n\n".join(map(section, tasks().values()))}
    made |= {"table": table(rows, trials), "trials": tried(trials), "shortcuts": opened(shortcuts or [])}
    for mark, content in made.items():
        pattern = re.compile(f"(<!-- {mark} -->\n).*?(\n<!-- /{mark} -->)", re.DOTALL)
        if not pattern.search(text) or text.count(f"<!-- /{mark} -->") > 1:
            raise ValueError(f"the page must have one part '{mark}'")
        text = pattern.sub(lambda found, new=content: found[1] + new + found[2], text)
    return text


def section(task: type[PretextTask]) -> str:
    """What a task says of itself in its file."""
    needs = [
        f"{' and '.join(f'{d}-D' for d in task.dims)}",
        WORDS[task.sampling],
        f"{counted(task.channels)} channels",
        f"at least {task.smallest} pixels a side",
    ]
    if task.needs_tokens:
        needs.append("a vision transformer")
    doc = inspect.cleandoc(sys.modules[task.__module__].__doc__ or "")
    note = " Kept as a baseline." if task.name in BASELINES else ""
    return f"### {task.name}\n\n{task.paper}.{note} Takes {', '.join(needs)}.\n\n{doc}"


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _score(numbers: list[float | None]) -> str:
    score, low, high = numbers
    interval = "n/e" if low is None else f"{low:.3f}-{high:.3f}"
    return f"{score:.3f} ({interval})".replace("0.", ".")


def _gap(numbers: list[float | None]) -> str:
    gap, low, high = numbers
    interval = "n/e" if low is None else f"{low:+.3f}, {high:+.3f}"
    text = f"{gap:+.3f} [{interval}]".replace("0.", ".")
    return f"**{text}**" if above(numbers) else text


def _short(value: float) -> str:
    return f"{value:.3g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3g}"


if __name__ == "__main__":
    print(write_page())
