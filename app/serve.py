"""Start the server as `streamlit run` does, with what the pages need loaded before the first of them is asked for.

    python serve.py run main.py [FLAGS] -- WORKSPACE

Pages share this process, so the second that these libraries take is not spent while somebody looks at an empty page.
"""

from __future__ import annotations

import sys

import altair  # noqa: F401
import pandas  # noqa: F401
import streamlit  # noqa: F401
from streamlit.web.cli import main

import medssl.cohort
import medssl.experiment
import medssl.figures
import medssl.report  # noqa: F401

if __name__ == "__main__":
    sys.exit(main(prog_name="streamlit"))
