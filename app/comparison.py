"""Curves of other experiments beside the chosen one's, on one scale."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import parts
import state
import streamlit as st

from medssl.experiment import Results
from medssl.figures import label_efficiency, metric_name, y_domain
from medssl.report.protocol import subtitle

MOST = 3  # other experiments at a time


def show(found: Results, metric: str) -> None:
    others = [name for name in state.experiments() if name != found.path.name]
    if not others:
        return
    st.header("Beside other experiments", anchor=False)
    key = state.choice(found.name, "with", others, [])
    st.session_state[key] = st.session_state[key][:MOST]  # a link may name more
    chosen = st.multiselect(
        "Experiments", others, key=key, max_selections=MOST, placeholder="Choose up to three experiments"
    )
    state.keep(found.name, "with", chosen, [])
    shown = [found]
    for name in chosen:
        other = state.results(name)
        problem = other if isinstance(other, state.Problem) else state.tables(other)
        if isinstance(other, state.Problem) or problem:
            st.markdown(f"`{name}`: {problem.what if problem else ''}")
        elif metric not in set(other.scores()["metric"]):
            st.markdown(f"`{name}` has no {metric_name(metric)}.")
        else:
            shown.append(other)
    if len(shown) < 2:
        return
    frame = pd.concat([one.scores() for one in shown])
    domain = y_domain(frame[frame["metric"] == metric], metric)
    everyone = list(dict.fromkeys(arm for one in shown for arm in one.settings.arms))  # an arm has one colour in all
    places = st.columns(2, gap="medium")
    for number, one in enumerate(shown):
        with places[number % 2]:
            draw = partial(_panel, one, metric, domain, everyone)
            parts.chart(partial(draw, "container", parts.theme()))
            with st.container(horizontal=True):
                parts.exports(one.name, f"{one.name}-{metric}-compared", partial(draw, 480, "light"), one.scores)
    st.caption(_comparable(shown))


def _panel(one: Results, metric: str, domain: tuple[float, float], everyone: list[str], width: Any, theme: Any) -> Any:
    config = one.settings
    return label_efficiency(
        one.scores(),
        one.label_counts(),
        metric,
        per=config.per,
        unit=config.target.unit,
        title=one.title,
        subtitle=subtitle(one) if width != "container" else [f"{one.name}: predicts {config.target.name}"],
        width=width,
        height=300,
        theme=theme,
        everyone=everyone,
        domain=domain,
    )


def _comparable(shown: list[Results]) -> str:
    """Whether heights may be compared at all."""
    about = {(str(one.facts.get("split")), one.settings.target.name, one.settings.target.unit) for one in shown}
    if len(about) == 1:
        return "The same split and target: the same test patients, so heights can be compared, though not as pairs."
    return "Other patients or another target: compare the shapes of the curves, not their heights."
