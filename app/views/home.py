"""Experiments of this workspace: how far each is, and its verdict in one sentence."""

from __future__ import annotations

import parts
import state
import streamlit as st


def show() -> None:
    st.title("Experiments", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    names = state.experiments()
    if not names:
        parts.no_experiments()
        return
    for name in names:
        _card(name)


def _card(name: str) -> None:
    found = state.results(name)
    with st.container(border=True):
        text, button = st.columns([6, 1], vertical_alignment="center")
        with text:
            if isinstance(found, state.Problem):
                st.subheader(name, anchor=False)
                st.markdown(found.what)
                if found.todo:
                    st.caption(found.todo)
                return
            st.subheader(parts.plain(found.title), anchor=False)
            st.caption(f"`{name}` · {parts.progress(found)}")
            problem = state.tables(found)
            if problem:
                st.markdown(problem.what)
            else:
                parts.verdicts(parts.main_verdict(found))
        with button:
            if st.button("Open", key=f"open {name}", on_click=state.choose, args=(name,), width="stretch"):
                st.switch_page(st.session_state["pages"]["curve"])


show()
