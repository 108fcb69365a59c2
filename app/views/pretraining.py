"""Pretraining: how the loss of each run went, and which arms use it."""

from __future__ import annotations

import pandas as pd
import parts
import state
import streamlit as st

from medssl.experiment import Results
from medssl.figures import history, metric_name

NOT_METRICS = {"step", "steps", "epoch", "time", "seconds", "when"}
OF_THE_ENGINE = "share_"  # where the time goes: for whoever tunes the engine, in history.jsonl


def show() -> None:
    found = parts.chosen_results()
    if found is None:
        return
    parts.heading(found)
    logs = _logs(found)
    if not found.settings.pretraining:
        parts.empty(state.Problem("No arm of this experiment is pretrained.", "Add `pretraining:` to its config."))
        return
    if not logs:
        parts.empty(
            state.Problem(
                "No pretraining run of this experiment has left a history yet.",
                "It appears here when the first run is finished. If nothing is running, run the config again with "
                "`medssl run`.",
            )
        )
        return
    st.header("Histories", anchor=False)
    metrics = _metrics(logs)
    key = state.choice(found.name, "log", metrics, metrics[0])
    metric = metrics[0]
    if len(metrics) > 1:
        metric = str(st.segmented_control("Show", metrics, key=key, format_func=metric_name, required=True))
    state.keep(found.name, "log", metric, metrics[0])
    shown = {run: log for run, log in logs.items() if metric in log and log[metric].notna().any()}
    places = st.columns(2, gap="large")
    for i, run in enumerate(shown):
        with places[i % 2]:
            chart = history(shown, metric, only=run, width="container", height=210, theme=parts.theme())
            st.altair_chart(chart, theme=None, width="stretch")
    st.caption("Each run has its own scale: losses of different tasks cannot be compared.")
    st.header("Runs", anchor=False)
    _runs(found, logs)


def _logs(found: Results) -> dict[str, pd.DataFrame]:
    try:
        return {run: log for run, log in found.histories().items() if len(log) and "step" in log}
    except (OSError, ValueError):
        state.LOG.exception("a pretraining history of %s cannot be read", found.name)
        return {}


def _metrics(logs: dict[str, pd.DataFrame]) -> list[str]:
    """Columns that can be drawn, the loss first."""
    columns = dict.fromkeys(c for log in logs.values() for c in log.select_dtypes("number").columns)
    return sorted(
        (c for c in columns if c not in NOT_METRICS and not c.startswith(OF_THE_ENGINE)), key=lambda c: (c != "loss", c)
    )


def _runs(found: Results, logs: dict[str, pd.DataFrame]) -> None:
    rows = []
    for run, spec in found.settings.pretraining.items():
        log = logs.get(run)
        arms = ", ".join(a for a, arm in found.settings.arms.items() if arm.pretrain == run) or "none"
        steps = f"{int(log['step'].max()) if log is not None else 0:,} of {spec.length.removesuffix(' steps')}"
        losses = log["loss"].dropna() if log is not None and "loss" in log else pd.Series(dtype=float)
        loss = f"{losses.iloc[0]:.4g} → {losses.iloc[-1]:.4g}" if len(losses) else "–"
        rows.append([run, spec.task, spec.encoder, spec.weights, arms, steps, loss])
    parts.table(["Run", "Task", "Encoder", "Started from", "Used by", "Steps", "Loss, first → last"], rows, words=5)


show()
