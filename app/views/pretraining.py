"""Pretraining: how runs go while they run, what alarms them, what their task sees and answers, how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import pandas as pd
import parts
import state
import streamlit as st
import task_pictures

from medssl.experiment.runs import Run, differing, runs
from medssl.figures import arm_colours, history, metric_name, overlaid
from medssl.workspace import Workspace

NOT_METRICS = {"step", "steps", "epoch", "time", "seconds", "when"}
OF_THE_ENGINE = "share_"  # where the time goes: for whoever tunes the engine, in history.jsonl
REFRESH_S, MOST = 3, 8  # seconds between looks at a running run; runs that are compared at once
LAYOUTS = {"apart": "One a run", "together": "All in one"}
PAGE = "pretraining"  # whose choices these are: the workspace's, whatever experiment is chosen


def show() -> None:
    st.title("Pretraining", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    known = {run.name: run for run in runs(place)}
    if not known:
        parts.empty(
            state.Problem(
                "No pretraining run of this workspace has left a history yet.",
                "Start one on the page *New run*, or with `medssl pretrain COHORT --task simclr`. It appears here with "
                "its first step.",
            )
        )
        return
    names, used = _names(place, known)
    chosen = _chosen(known, names)
    if not chosen:
        parts.empty(state.Problem("Choose at least one run."))
        return
    logs = _logs(chosen, names)
    metric, layout = _metric(logs)
    live = any(run.state == "running" for run in chosen)
    st.fragment(_histories, run_every=REFRESH_S if live else None)(chosen, names, metric, layout)
    if any(metric in log for log in logs.values()):
        now = partial(_logs, chosen, names)  # as far as they are when they are asked for
        with st.container(horizontal=True):
            parts.exports("History", f"pretraining-{metric}", lambda: overlaid(now(), metric), lambda: _long(now()))
    st.header("What the task sees and answers", anchor=False)
    st.fragment(task_pictures.show)(PAGE, place, chosen, names)
    st.header("Settings", anchor=False)
    _settings(chosen, names, used)


def _names(place: Workspace, known: Mapping[str, Run]) -> tuple[dict[str, str], dict[str, str]]:
    """Folder -> the name that a run has in the chosen experiment (that of its folder elsewhere), and the arms that use
    it there."""
    names, used = {name: name for name in known}, dict[str, str]()
    experiment = state.chosen()
    if experiment is None:
        return names, used
    found = state.results(experiment)
    if isinstance(found, state.Problem):
        st.caption(f"{parts.plain(experiment)}: {found.what} Its runs stand here by the names of their folders.")
        return names, used
    try:
        own = {key: run for run, key in found.pretrained().items() if key in known and run not in known}
    except ValueError:
        st.caption("The list of the chosen experiment's runs cannot be read. They stand here by their folders.")
        return names, used
    if not own:
        st.caption("No run of the chosen experiment is here yet. These are the others of this workspace.")
    for key, run in own.items():
        users = [a for a, arm in found.settings.arms.items() if arm.pretrain == run.partition(" #")[0]]
        used[key] = ", ".join(users)
    return names | own, used


def _chosen(known: Mapping[str, Run], names: Mapping[str, str]) -> list[Run]:
    """Runs of the whole workspace may be chosen; first what runs, and those of the chosen experiment."""
    own = sorted((name for name in known if names[name] != name), key=lambda name: names[name])
    options = own + [name for name in known if name not in own]
    first = [n for n in options if known[n].state == "running" or names[n] != n][:MOST] or options[:1]
    key = state.choice(PAGE, "runs", options, first)
    picked = st.multiselect("Runs", options, key=key, format_func=lambda n: names[n], max_selections=MOST)
    state.keep(PAGE, "runs", picked, first)
    return [known[name] for name in picked]


def _metric(logs: Mapping[str, pd.DataFrame]) -> tuple[str, str]:
    metrics = _metrics(logs)
    key = state.choice(PAGE, "log", metrics, metrics[0])
    metric = str(st.pills("Show", metrics, key=key, format_func=metric_name, required=True, wrap=True))
    key, kinds = state.choice(PAGE, "layout", list(LAYOUTS), "apart"), list(LAYOUTS)
    layout = "apart"
    if len(logs) > 1:
        layout = str(st.segmented_control("Charts", kinds, key=key, format_func=lambda k: LAYOUTS[k], required=True))
    state.keep(PAGE, "log", metric, metrics[0])
    state.keep(PAGE, "layout", layout, "apart")
    return metric, layout


def _metrics(logs: Mapping[str, pd.DataFrame]) -> list[str]:
    """Columns that can be drawn, the loss first."""
    columns = dict.fromkeys(c for log in logs.values() if len(log) for c in log.select_dtypes("number").columns)
    drawn = (c for c in columns if c not in NOT_METRICS and not c.startswith(OF_THE_ENGINE))
    return sorted(drawn, key=lambda c: (c != "loss", c)) or ["loss"]


def _logs(chosen: Sequence[Run], names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    return {names[run.name]: run.history() for run in chosen}


def _long(logs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All histories below each other, each line with the name of its run."""
    return pd.concat([log.assign(run=name) for name, log in logs.items()], ignore_index=True)


def _histories(chosen: Sequence[Run], names: Mapping[str, str], metric: str, layout: str) -> None:
    """State, alarms and charts: all that changes while a run goes on, and nothing else is drawn anew."""
    logs = _logs(chosen, names)
    colours, states = arm_colours(logs), {run.name: run.state for run in chosen}
    before = st.session_state.get("pretraining states")
    st.session_state["pretraining states"] = states
    if before is not None and before != states and before.keys() == states.keys():
        st.rerun()  # one has ended: the rest of the page can show what it made
    _progress(chosen, names, logs, colours)
    _alarms(chosen, names)
    shown = {name: log for name, log in logs.items() if metric in log and log[metric].notna().any()}
    if not shown:
        parts.empty(state.Problem("No step of these runs is logged yet.", "It appears here with the first log line."))
        return
    theme = parts.theme()
    if layout == "together":
        st.altair_chart(overlaid(shown, metric, width="container", theme=theme), theme=None, width="stretch")
        return
    levels = {names[run.name]: run.levels(metric) for run in chosen}
    places = st.columns(2 if len(shown) > 1 else 1, gap="large")
    for i, name in enumerate(shown):
        with places[i % len(places)]:
            drawn = history(
                {n: shown.get(n, pd.DataFrame()) for n in logs},
                metric,
                only=name,
                width="container",
                height=210,
                theme=theme,
                levels=levels,
            )
            st.altair_chart(drawn, theme=None, width="stretch")
    if metric == "loss" and len(shown) > 1:
        st.caption("Each run has its own scale: losses of different tasks cannot be compared.")


def _progress(
    chosen: Sequence[Run], names: Mapping[str, str], logs: Mapping[str, pd.DataFrame], colours: Mapping[str, str]
) -> None:
    """A row a run: how far it is, and its monitors, from the untrained network's value to the last one."""
    heads = ("Run", "State", "Steps", "Loss", "Spread", "Effective rank", "kNN AUC", "Images/s")
    top = "".join(f'<th scope="col"{_words(i)}>{h}</th>' for i, h in enumerate(heads))
    body = ""
    for run in chosen:
        log, name = logs[names[run.name]], names[run.name]
        last = log.ffill().iloc[-1].to_dict() if len(log) else {}
        start = run.about.get("floor", {})
        left = run.seconds_left(log) if run.state == "running" else None
        said = run.state + (f"<small>about {_time(left)} left</small>" if left is not None else "")
        step = int(last.get("step", 0))
        cells = [said, f"{step:,} of {run.steps:,}" if run.steps else f"{step:,}"]
        for key, form in (("loss", ".4g"), ("embedding_std", ".2f"), ("rankme", ".0f")):
            cells.append(_from_to(start.get(key), last.get(key), form))
        cells += [_value(last.get("knn_auc"), ".3f"), _value(last.get("images_per_second"), ",.0f")]
        row = "".join(f"<td{_words(i + 1)}>{cell}</td>" for i, cell in enumerate(cells))
        swatch = f'<span class="m-swatch" style="background: {colours[name]}"></span>'
        body += f'<tr><th scope="row">{swatch}{escape(name)}</th>{row}</tr>'
    st.html(f'<div class="m-table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>')
    st.caption("Loss: if nothing is learned → now. Spread and effective rank of the embeddings: untrained → now.")


def _words(column: int) -> str:
    return ' class="words"' if column < 2 else ""


def _from_to(start: Any, now: Any, form: str) -> str:
    return _value(now, form) if start is None else f"{_value(start, form)} → {_value(now, form)}"


def _value(value: Any, form: str) -> str:
    return "–" if value is None or value != value else format(value, form)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _alarms(chosen: Sequence[Run], names: Mapping[str, str]) -> None:
    """What the monitors said of collapse and divergence."""
    found = [(names[run.name], alarm) for run in chosen for alarm in run.alarms()]
    for name, alarm in found:
        st.warning(f"**{parts.plain(name)}**, step {alarm.step:,}: {parts.plain(alarm.words)}")
    for run in (run for run in chosen if run.state == "stopped"):
        st.info(
            f"**{parts.plain(names[run.name])}** stopped before its end. The command that began it goes on from the "
            "last saved state."
        )
    if not found:
        st.caption("No alarm: no collapse and no divergence was seen.")


def _settings(chosen: Sequence[Run], names: Mapping[str, str], used: Mapping[str, str]) -> None:
    """What differs between the runs; of a single one, all."""
    able = [run for run in chosen if run.settings()]
    if not able:
        parts.empty(state.Problem("These runs say nothing of their settings.", "Their `run.json` is missing."))
        return
    apart, same = differing(able)
    if len(able) > 1:
        if apart:
            rows = [[key, *(_word(value) for value in row)] for key, row in apart.items()]
            if used:
                rows.insert(0, ["Used by the arms", *(used.get(run.name, "–") for run in able)])
            parts.table(["Setting", *(names[run.name] for run in able)], rows, words=len(able) + 1)
        else:
            st.caption("These runs have the same settings.")
    title = f"{len(same)} settings that are the same" if len(able) > 1 else "All settings"
    with st.expander(title):
        rows = [["Used by the arms", used[able[0].name]]] if len(able) == 1 and able[0].name in used else []
        parts.table(["Setting", "Value"], rows + [[key, _word(value)] for key, value in same.items()], words=2)


def _word(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


show()
