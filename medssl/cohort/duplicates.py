"""Near duplicates: other files of one picture (saved again, rescaled, brightened, shifted by a pixel or two).

Two scans are near duplicates where a perceptual hash of the coarse picture is close and the fine detail correlates.
The hash is the sign of the lowest DCT coefficients (pHash, Zauner 2010). Detail is what a Gaussian filter takes away,
divided by its local size, so that neither brightness nor contrast counts; two warps of one brain or two chests agree in
what is coarse and not in detail. Thresholds are calibrated in docs/decisions.md. Turned, mirrored or strongly cropped
copies are not found.

Fingerprints lie in `fingerprints2d.npz` and `fingerprints3d.npz`, pairs in `near.json` of the cohort, made when
they are first needed, and fingerprints of scans that are known are not made again.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medssl.cohort.arrays import read_array
from medssl.progress import bar
from medssl.workspace import atomic, digest, write_json

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # to be raised with any change to fingerprints or thresholds


class Recipe(NamedTuple):
    """How scans of so many dimensions are compared.

    Attributes:
        side: pixels or voxels of the detail, a side.
        sigma: of the Gaussian that separates coarse from fine, in those pixels.
        low: DCT coefficients a side that the hash takes.
        bits: in which two hashes may differ.
        detail: correlation from which on details are the same.
        small: the same, where a scan has fewer than `1.5 * side` pixels a side: outlines are then most of its detail,
            and two hands have those in common.
        shift: pixels by which they may be shifted.
    """

    side: int
    sigma: float
    low: int
    bits: int
    detail: float
    small: float
    shift: int


RECIPES = {2: Recipe(64, 2.0, 8, 6, 0.58, 0.72, 2), 3: Recipe(24, 1.5, 4, 12, 0.75, 0.75, 0)}
BLOCK = 2048  # rows of the hash matrix that are compared at once


def near_duplicates(cohort: Path, scans: pd.DataFrame) -> pd.DataFrame:
    """Pairs of near-duplicate scans: `first`, `second` (scan ids), `detail` (correlation, 1 is equal).

    Args:
        cohort: its folder.
        scans: as `Cohort.scans` gives them. Scans with the same content hash are compared once, so exact duplicates are
            in no pair with each other.
    """
    import pandas as pd

    unique = scans.drop_duplicates("content_hash")
    key = digest([VERSION, RECIPES, sorted(unique["content_hash"])])
    path = cohort / "near.json"
    stored = json.loads(path.read_text()) if path.is_file() else {}
    if stored.get("key") != key:
        pairs = []
        for dims, recipe in RECIPES.items():
            rows = unique[unique["kind"].isin(["volume", "colour_volume"]) == (dims == 3)]
            prints = _fingerprints(cohort, rows, dims, recipe)
            names = rows["content_hash"].to_numpy()
            small = np.array([min(shape[-dims:]) < 1.5 * recipe.side for shape in rows["shape"]], bool)
            pairs += [
                [names[i], names[j], round(r, 3)]
                for i, j, r in _pairs(*prints, dims, recipe)
                if r >= recipe.small or not (small[i] or small[j])
            ]
        stored = {"key": key, "pairs": pairs}
        write_json(path, stored)
    scan_of = dict(zip(unique["content_hash"], unique["scan"], strict=True))
    found = [(scan_of[a], scan_of[b], r) for a, b, r in stored["pairs"]]
    return pd.DataFrame(found, columns=["first", "second", "detail"])


def near_between(first: Path, scans: pd.DataFrame, second: Path, others: pd.DataFrame) -> set[str]:
    """Content hashes of those `others` that show the same picture as one of `scans`.

    Args:
        first, scans: a cohort's folder, and some of its scans as `Cohort.scans` gives them.
        second, others: likewise of another cohort.
    """
    found: set[str] = set()
    for dims, recipe in RECIPES.items():
        sides = []
        for cohort, table in ((first, scans), (second, others)):
            table = table.drop_duplicates("content_hash")
            rows = table[table["kind"].isin(["volume", "colour_volume"]) == (dims == 3)]
            signs, details = _fingerprints(cohort, rows, dims, recipe)
            small = np.array([min(shape[-dims:]) < 1.5 * recipe.side for shape in rows["shape"]], bool)
            sides.append((signs.astype(np.float32) * 2 - 1, details, small, rows["content_hash"].to_numpy()))
        (here, mine, little, _), (there, theirs, tiny, names) = sides
        enough = here.shape[1] - 2 * recipe.bits - 0.5
        for start in range(0, len(here), BLOCK):
            for i, j in np.argwhere(here[start : start + BLOCK] @ there.T > enough):
                i += start
                least = recipe.small if little[i] or tiny[j] else recipe.detail
                if names[j] not in found and _correlation(mine[i], theirs[j], recipe.shift) >= least:
                    found.add(names[j])
    return found


def fingerprint(array: np.ndarray, dims: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """((low^dims - 1,) bool, (side,) * dims int8) of an image (y, x) or a volume (z, y, x), in colour (C, ...)."""
    from scipy.fft import dctn
    from scipy.ndimage import gaussian_filter

    small = _shrink(array.mean(0) if array.ndim > dims else array, recipe.side)
    low, high = np.percentile(small, (0.5, 99.5))
    small = np.clip(small, low, high)
    coarse = dctn(small, norm="ortho")[(slice(recipe.low),) * dims].reshape(-1)[1:]
    fine = small - gaussian_filter(small, recipe.sigma)
    size = np.sqrt(gaussian_filter(fine * fine, 2 * recipe.sigma))
    fine /= size + 0.05 * fine.std() + 1e-3 * max(high - low, 1e-6)  # flat regions have noise, and no detail
    return coarse > np.median(coarse), np.clip(np.rint(fine * 32), -127, 127).astype(np.int8)


def _shrink(array: np.ndarray, side: int) -> np.ndarray:
    """Means over `side` equal cells an axis, float32; a large array is thinned out first."""
    array = array[tuple(slice(None, None, max(1, n // (4 * side))) for n in array.shape)].astype(np.float32)
    for axis, count in enumerate(array.shape):
        edges = np.linspace(0, count, side + 1)
        whole = np.minimum(edges.astype(int), count - 1)
        total = np.concatenate([np.zeros_like(array.take([0], axis)), np.cumsum(array, axis, dtype=np.float64)], axis)
        part = (edges - whole).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
        sums = total.take(whole, axis) * (1 - part) + total.take(whole + 1, axis) * part
        array = (np.diff(sums, axis=axis) / (count / side)).astype(np.float32)
    return array


def _fingerprints(cohort: Path, rows: pd.DataFrame, dims: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(N, bits) bool and (N, side, ...) int8 of these scans: stored ones, and the missing ones made now."""
    known = _load(cohort, dims)
    hashes = np.zeros((len(rows), recipe.low**dims - 1), bool)
    details = np.zeros((len(rows), *(recipe.side,) * dims), np.int8)
    fresh = 0
    with bar("fingerprints", len(rows)) as progress:
        for n, (scan, content) in enumerate(zip(rows["scan"], rows["content_hash"], strict=True)):
            if content in known:
                hashes[n], details[n] = known[content]
            elif (array := read_array(cohort, scan)) is not None:
                hashes[n], details[n] = fingerprint(array, dims, recipe)
                fresh += 1
            progress.advance()
    if fresh:
        names = rows["content_hash"].to_numpy().astype(str)
        with atomic(cohort / f"fingerprints{dims}d.npz") as path, path.open("wb") as file:
            np.savez(file, names=names, hashes=hashes, details=details, version=VERSION)
    return hashes, details


def _load(cohort: Path, dims: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    try:
        with np.load(cohort / f"fingerprints{dims}d.npz", allow_pickle=False) as file:
            if int(file["version"]) != VERSION:
                return {}
            return dict(zip(file["names"].tolist(), zip(file["hashes"], file["details"], strict=True), strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}


def _pairs(hashes: np.ndarray, details: np.ndarray, dims: int, recipe: Recipe) -> Iterator[tuple[int, int, float]]:
    """(i, j, correlation) of all pairs i < j that pass both tests."""
    signs = hashes.astype(np.float32) * 2 - 1
    enough = hashes.shape[1] - 2 * recipe.bits - 0.5  # of the signs' inner product
    for start in range(0, len(signs), BLOCK):
        close = np.argwhere(signs[start : start + BLOCK] @ signs[start:].T > enough)
        for i, j in close[close[:, 0] < close[:, 1]] + start:
            detail = _correlation(details[i], details[j], recipe.shift)
            if detail >= recipe.detail:
                yield int(i), int(j), detail


def _correlation(first: np.ndarray, second: np.ndarray, shift: int) -> float:
    """Pearson's, the largest over all shifts of up to `shift` pixels along each axis."""
    best = -1.0
    a, b = first.astype(np.float32), second.astype(np.float32)
    for move in np.ndindex(*(2 * shift + 1,) * a.ndim):
        steps = [m - shift for m in move]
        x = a[tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(steps, a.shape, strict=True))]
        y = b[tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(steps, b.shape, strict=True))]
        x, y = x - x.mean(), y - y.mean()
        best = max(best, float((x * y).sum() / (np.sqrt((x * x).sum() * (y * y).sum()) + 1e-9)))
    return best
