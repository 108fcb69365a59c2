"""What the app may read, and what becomes of uploaded tables."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from medssl.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import main_page

sys.path.insert(0, str(main_page().parent))
import places


@pytest.fixture
def tree(tmp_path, workspace):
    """A listed folder, one that is not, and links between them."""
    for name in ("listed/scans", "listed_too", "elsewhere/scans"):
        (tmp_path / name).mkdir(parents=True)
    (workspace.path / "sources" / "mine").mkdir(parents=True)
    (tmp_path / "listed" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "listed" / "circle").symlink_to(tmp_path / "listed" / "circle")
    (tmp_path / "in").symlink_to(tmp_path / "listed")
    return tmp_path


def test_paths_inside_are_found_with_their_links_followed(tree, workspace):
    folders = [tree / "listed"]
    assert places.allowed(tree / "in" / "scans", workspace, folders) == tree / "listed" / "scans"
    assert places.allowed("scans", workspace, folders) == tree / "listed" / "scans"
    assert places.allowed(workspace.path / "sources" / "mine", workspace, []).name == "mine"
    assert places.allowed("mine", workspace, []) == workspace.path / "sources" / "mine"


@pytest.mark.parametrize(
    "path",
    [
        "elsewhere/scans",
        "elsewhere/nothing",
        "listed/../elsewhere",
        "listed/out",
        "listed/out/scans",
        "listed_too",
        "/",
        "~",
    ],
)
def test_paths_outside_are_refused_whether_they_exist_or_not(tree, workspace, path):
    with pytest.raises(UserError, match="may not read that folder"):
        places.allowed(path if path in "/~" else tree / path, workspace, [tree / "listed"])


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "circle"])
def test_what_is_no_path_is_said(tree, workspace, path):
    with pytest.raises(UserError, match=r"not the path|no such file"):
        places.allowed(path, workspace, [tree / "listed"])


def test_the_administrator_lists_folders(tree, workspace, monkeypatch):
    arguments = ["ws", "--folder", str(tree / "listed"), "--folder", str(tree / "in")]
    assert places.listed(arguments) == [tree / "listed", tree / "listed"]
    monkeypatch.setenv("MEDSSL_DATA", str(tree / "elsewhere"))
    assert places.listed(["ws"]) == [tree / "elsewhere"]
    assert places.offered(workspace, [tree / "elsewhere"]) == [
        workspace.path / "sources" / "mine",
        tree / "elsewhere" / "scans",
    ]
    offered = places.offered(workspace, [tree / "listed"])
    assert offered == [workspace.path / "sources" / "mine", tree / "listed"], (
        "what lies in a listed folder is not shown"
    )


def test_an_upload_is_kept_for_its_owner_and_goes(workspace):
    kept = places.keep_upload("Mr Miller.CSV", b"a,b\n1,2\n", workspace)
    assert kept.read_bytes() == b"a,b\n1,2\n" and "Miller" not in str(kept) and kept.suffix == ".csv"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert places.keep_upload("b.csv", b"a,b\n1,2\n", workspace) == kept
    old = time.time() - places.KEPT_S - 9
    os.utime(kept, (old, old))
    other = places.keep_upload("c.tsv", b"a\tb\n", workspace)
    assert not kept.exists() and other.exists()
    mine = workspace.path / "labels.csv"
    mine.write_text("a")
    places.drop_upload(str(mine), workspace)
    places.drop_upload(str(other), workspace)
    assert mine.exists() and not other.exists()
