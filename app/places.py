"""Which folders this app may read: the workspace, and those that whoever started it listed."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path

from medssl.errors import SourcePath, UserError
from medssl.workspace import Workspace, data_folder

KEPT_S = 24 * 3600.0  # that an uploaded label table stays, at most


def listed(arguments: list[str] | None = None) -> list[Path]:
    """The folders after `--folder`, else MEDSSL_DATA."""
    arguments = sys.argv[1:] if arguments is None else arguments
    named = [Path(b) for a, b in pairwise(arguments) if a == "--folder"]
    data = data_folder()
    return [f.expanduser().resolve() for f in named] or ([data] if data else [])


def allowed(path: str | Path, workspace: Workspace, folders: list[Path]) -> Path:
    """The path with its links followed, where it lies in the workspace or in one of the folders.

    A path that is not absolute is meant below the first folder. Whether a path elsewhere exists is not told.

    Raises:
        UserError: it lies elsewhere, or does not exist.
    """
    roots = [workspace.path.resolve(), *folders]
    try:
        found = Path(folders[0] if folders else workspace.path / "sources", Path(path).expanduser()).resolve()
        exists = found.exists()
    except (OSError, RuntimeError, ValueError):  # a circle of links, a name that is too long, a zero byte
        raise UserError("this is not the path of a file or folder", "", "Check it.") from None
    if not any(found.is_relative_to(root) for root in roots):
        where = ", ".join(str(root) for root in roots)
        fix = f"It may read {where}. More folders are listed with `medssl app --folder DIR`."
        raise UserError("this app may not read that folder", "", fix)
    if not exists:
        raise UserError("there is no such file or folder", SourcePath(found), "Check the path.")
    return found


def offered(workspace: Workspace, folders: list[Path]) -> list[Path]:
    """Folders of scans to choose from: the data sets in MEDSSL_DATA and in the workspace, and what was listed."""
    data = data_folder()
    inside = [workspace.path / "sources", *([data] if data in folders else [])]
    sets = [p for place in inside if place and place.is_dir() for p in sorted(place.iterdir()) if p.is_dir()]
    return [p for p in sets if not p.name.startswith(".")] + [f for f in folders if f != data and f.is_dir()]


def keep_upload(name: str, content: bytes, workspace: Workspace) -> Path:
    """Put an uploaded label table where `medssl label` can read it, for its owner only; old ones are removed.

    Its own name may name a patient, so it gets another.
    """
    ending = Path(name).suffix.lower()
    place = workspace.upload(workspace.pseudonym("upload", content.hex()) + ending)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.parent.chmod(0o700)
    for old in place.parent.iterdir():
        if time.time() - old.stat().st_mtime > KEPT_S:
            old.unlink(missing_ok=True)
    if not place.exists():
        place.touch(mode=0o600)
        place.write_bytes(content)
    return place


def drop_upload(file: str, workspace: Workspace) -> None:
    """Remove an uploaded table that is no longer needed; any other file stays."""
    place = Path(file)
    if place.parent == workspace.upload(place.name).parent:
        place.unlink(missing_ok=True)
