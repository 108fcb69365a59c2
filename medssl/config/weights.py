"""What `init` and `weights` may name: public weights, or a file."""

from __future__ import annotations

import os
from pathlib import Path


def weights_file(weights: str) -> Path | None:
    """The file that `weights` names, where it names one and no public weights."""
    path = Path(weights).expanduser()
    return path if path.suffix == ".safetensors" or os.sep in weights else None
