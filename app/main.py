"""The dashboard: `streamlit run main.py -- --workspace DIR`, or simply `medssl app --workspace DIR`.

Pages lie in views/, one file a page; what they share is in state.py (workspace, experiments, choices in the URL) and
parts.py (tables, verdicts, empty states). No statistics and no training here: pages show what `Results` holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:  # the pages lie beside this file, in a checkout and in an installed package alike
    sys.path.insert(0, HERE)

import access  # noqa: E402
import parts  # noqa: E402
import state  # noqa: E402

st.set_page_config(page_title="medssl", layout="wide", initial_sidebar_state=240)
st.logo(str(Path(HERE) / "logo.svg"))
parts.style()

if closed := access.open_to_others():
    parts.empty(closed)
    st.stop()
if access.login() and not st.user.is_logged_in:
    st.title("medssl", anchor=False)
    st.button("Log in", on_click=st.login)
    st.stop()

pages = {  # no icons: Streamlit would fetch them from the internet
    "home": st.Page("views/home.py", title="Home", default=True),
    "new": st.Page("views/new_run.py", title="New run", url_path="new-run"),
    "cohort": st.Page("views/cohort.py", title="Cohort", url_path="cohort"),
    "pretraining": st.Page("views/pretraining.py", title="Pretraining", url_path="pretraining"),
    "curve": st.Page("views/label_efficiency.py", title="Label efficiency", url_path="label-efficiency"),
    "embedding": st.Page("views/embedding.py", title="Embedding", url_path="embedding"),
    "predictions": st.Page("views/predictions.py", title="Predictions", url_path="predictions"),
    "reader": st.Page("views/reader_test.py", title="Reader test", url_path="reader-test"),
}
st.session_state["pages"] = pages
page = st.navigation(list(pages.values()))
with st.sidebar:
    state.choose_experiment(shown=page not in [pages[name] for name in ("home", "new", "reader")])
page.run()
