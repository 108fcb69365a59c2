"""Which run a folder belongs to: everything that decides the outcome, kept in `run.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from medssl.config import weights_file
from medssl.errors import UserError
from medssl.workspace import code_revision


def outside() -> dict[str, Any]:
    """What decides the outcome beside the arguments: threads (they order sums), torch, and our own code."""
    return {
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "code": code_revision("encoders", "augment", "pretext", "training"),
    }


def weights_key(weights: str) -> str:
    """The name of public weights, or the hash of a file's content: a path says nothing."""
    path = weights_file(weights)
    if path is None or not path.is_file():
        return weights
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_run(out: Path) -> dict[str, Any]:
    """What `run.json` says of the run in this folder; empty where there is none."""
    path = out / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def refuse_other_run(out: Path, before: dict[str, Any], identity: dict[str, Any]) -> None:
    """Nothing is overwritten: a folder belongs to one run. Steps are compared where `identity` has them.

    Raises:
        UserError: another run, or a checkpoint of unknown origin, lies in `out`.
    """
    if not before and (out / "checkpoint.safetensors").exists():
        raise UserError("there is a checkpoint of unknown origin in this folder", str(out), "Name another with --out.")
    held = before.get("identity", identity)
    compared = set(identity) | (set(held) - {"steps"})
    differs = sorted(key for key in compared if held.get(key) != identity.get(key))
    if differs:
        raise UserError(
            f"another run lies in this folder; it differs in {', '.join(differs)}",
            str(out),
            "Name another folder with --out, or repeat the command that began it to go on.",
        )
