"""Shared fixtures. Real scans are found at MEDSSL_DATA or ../shared/data; in CI their absence is a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans."""
    from medssl.workspace import data_folder

    folder = data_folder()
    if folder is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs the folder of real scans (MEDSSL_DATA or ../shared/data)")
        pytest.skip("no real scans: set MEDSSL_DATA, or put them at ../shared/data")
    return folder


@pytest.fixture
def workspace(tmp_path):
    """An empty workspace of its own."""
    from medssl.workspace import Workspace

    return Workspace(tmp_path / "workspace")


@pytest.fixture
def gpu():
    """A pretended one while the test lasts: the storages that lie on it."""
    from pretended_gpu import pretended

    with pretended() as memory:
        yield memory
