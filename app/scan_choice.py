"""Which scan of a cohort is looked at: by a click on the map, by its key, or by chance; it stands in the URL."""

from __future__ import annotations

import time
from typing import Any

import gallery
import numpy as np
import streamlit as st

from medssl.experiment.embedding import Embedded
from medssl.figures.embedding import PICK


def chosen(name: str, embedded: Embedded) -> int:
    """Number of the chosen scan: the one in the URL or clicked at, else the first."""
    key = st.session_state.get(f"scan {name}", st.query_params.get("scan"))
    found = np.flatnonzero(embedded.scans == key) if key else np.empty(0, int)
    return int(found[0]) if len(found) else 0


def choose(name: str, scan: str) -> None:
    st.session_state[f"scan {name}"] = scan
    st.query_params["scan"] = scan


def another(name: str, embedded: Embedded) -> None:
    choose(name, str(np.random.default_rng(time.time_ns()).choice(embedded.scans)))


def typed(name: str, box: str, embedded: Embedded) -> None:
    text = str(st.session_state[box]).strip()
    found = [s for s in embedded.scans if text and (str(s).startswith(text) or gallery.short(str(s)) == text)]
    if found:
        choose(name, str(found[0]))
    else:
        st.session_state[f"strange {name}"] = True


def take_click(name: str, event: Any, embedded: Embedded) -> None:
    """A click counts once: the chart goes on to say what was clicked at last."""
    picked = [p.get("scan") for p in (event or {}).get("selection", {}).get(PICK, [])]
    last = f"clicked {name}"
    if picked and picked[0] != st.session_state.get(last):
        st.session_state[last] = picked[0]
        found = [s for s in embedded.scans if gallery.short(str(s)) == picked[0]]
        if found:
            choose(name, str(found[0]))
            st.rerun()
