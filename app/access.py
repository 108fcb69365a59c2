"""Whether the app may show anything on the address that it listens on."""

from __future__ import annotations

import streamlit as st
from state import Problem

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def open_to_others() -> Problem | None:
    """None where the app listens on this computer alone, or asks everybody to log in; else why it shows nothing."""
    address = st.get_option("server.address")  # None in a test: our own config.toml says localhost to every server
    if address is None or address in LOOPBACK or login():
        return None
    return Problem(
        "The app would be open to everybody who can reach this computer, without a password, so it shows nothing.",
        "Start it with `medssl app`, which listens on localhost alone. To let others in, put a web server with a "
        "password before it, or set up Streamlit's own login: see docs/dashboard.md.",
    )


def login() -> bool:
    """Whether Streamlit's own login (OpenID Connect) is set up, by `[auth]` in a secrets.toml."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False
