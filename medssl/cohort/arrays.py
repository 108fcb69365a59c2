"""Where the voxels lie: one `.npy` a scan, in folders named by the first two digits of the scan id, read by memory map.

A mask of labels (`SCAN.mask.npy`) and a mask of padding (`SCAN.padding.npy`) lie beside it on the same grid.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Literal

import numpy as np

Part = Literal["", "mask", "padding"]
PARTS: tuple[Part, ...] = ("", "mask", "padding")
# numpy reads headers with Python's parser, which before 3.11.8 now and then fails in threads (python/cpython#106905).
HEADERS = threading.Lock()


def array_path(folder: Path, scan: str, part: Part = "") -> Path:
    """`arrays/ab/SCAN.npy`, where `ab` are the first two hex digits of the id "sab..."."""
    return folder / "arrays" / scan[1:3] / (f"{scan}.{part}.npy" if part else f"{scan}.npy")


def write_array(folder: Path, scan: str, array: np.ndarray, part: Part = "") -> Path:
    """Write in C-order under a temporary name, then rename: whoever reads sees a whole array or none."""
    path = array_path(folder, scan, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def read_array(folder: Path, scan: str, part: Part = "") -> np.ndarray | None:
    """The array as a read-only memory map, or None where it does not exist."""
    try:
        with HEADERS:
            return np.load(array_path(folder, scan, part), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None


def remove_array(folder: Path, scan: str, part: Part = "") -> None:
    array_path(folder, scan, part).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed writer left under temporary names."""
    for fresh in (folder / "arrays").glob("*/.s*.npy.*"):
        fresh.unlink(missing_ok=True)


def content_hash(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes (C-order): equal for equal pixels, whatever file they came in."""
    array = np.ascontiguousarray(array)
    total = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
