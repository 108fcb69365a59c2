"""Samples: one contiguous uint8 tensor for a View of a cohort, made once and memory-mapped from then on.

It lies under `samples/KEY/images.npy`, where KEY is the hash of the View, of the pixels and grids of all scans, and of
the code that renders them. The table beside it is read from the catalog, so that labels, patients and groups are always
the current ones.
"""

from __future__ import annotations

import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medssl.cohort import channels, rendering
from medssl.cohort.arrays import read_array
from medssl.config import View
from medssl.errors import MedsslError, UserError
from medssl.progress import bar
from medssl.workspace import digest, write_json

if TYPE_CHECKING:
    import pandas as pd

RENDERER = 1  # to be raised with any change to what rendering.py draws, so that old samples are made again


class Samples:
    """The samples of one View.

    Attributes:
        images: (N, C, H, W), in 3-D (N, C, D, H, W), uint8, read-only memory map; 0 is black, 255 white.
        table: one row a sample: scan (of several contrasts the first one's), patient, group, exam, slice (index along
            the View's plane in the array, or number of the patch; -1 for a whole image or volume),
            position_mm (world coordinate of a slice along its axis, or of a patch's centre from foot to head; NaN
            without geometry).
        view: the View that made them.
        key: names them; equal for equal pixels, whatever the workspace.
    """

    def __init__(self, images: np.ndarray, table: pd.DataFrame, view: View, key: str) -> None:
        self.images, self.table, self.view, self.key = images, table, view, key

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Samples({self.images.shape}, key={self.key!r})"


def make_samples(cohort: Path, scans: pd.DataFrame, view: View) -> Samples:
    """The samples of `view`, from `samples/KEY` where they exist, else made now in threads.

    Args:
        cohort: its folder.
        scans: as `Cohort.scans` gives them; samples come in their order.

    Raises:
        UserError: an empty cohort, 3-D samples of 2-D scans, or a spacing in mm where scans have none.
    """
    if scans.empty:
        raise UserError("the cohort has no scans", cohort.name, "See its findings for why no file was accepted.")
    drawn, rows = planned(scans, view, cohort.name)
    table = _table([own[0][0] for own in drawn], view)
    grids = [[r["content_hash"], r["affine"], r["spacing"], r["unit"], r["percentiles"]] for r in rows]
    key = digest({"view": view.model_dump(mode="json"), "scans": grids, "renderer": RENDERER})
    folder = cohort / "samples" / key
    if not (folder / "images.npy").is_file():
        _make(cohort, drawn, table, view, folder)
    return Samples(np.load(folder / "images.npy", mmap_mode="r"), table, view, key)


def planned(scans: pd.DataFrame, view: View, name: str) -> tuple[list[channels.Drawn], list[dict]]:
    """Which scans make the channels of each sample, and the rows of all that are drawn. Renders nothing.

    Raises:
        UserError: as `make_samples`.
    """
    drawn = channels.drawn(scans.to_dict("records"), view, name)
    rows = [row for own in drawn for row in {row["scan"]: row for row, _ in own}.values()]
    _check(rows, view, name)
    return drawn, rows


def _check(rows: list[dict], view: View, name: str) -> None:
    flat = sum(not rendering.is_volume(r) for r in rows)
    if view.spatial_dims == 3 and flat:
        raise UserError(f"{flat} of {len(rows)} scans are 2-D and give no 3-D samples", name, "Set spatial_dims: 2.")
    bare = sum(r["spacing"] is None for r in rows)
    if view.spacing is not None and bare:
        fix = "Leave view.spacing out: the whole field of view is then scaled to view.size."
        raise UserError(f"{bare} of {len(rows)} scans have no pixel spacing in mm", "view.spacing", fix)


def _table(rows: list[dict], view: View) -> pd.DataFrame:
    import pandas as pd

    counts, indices, positions = [], [], []
    for row in rows:
        if rendering.is_volume(row) and view.spatial_dims == 2:
            index = rendering.slice_indices(row["shape"][rendering.AXIS[view.plane]], view.slices)
            positions.append(rendering.slice_position(row, view.plane, index))
        elif view.patches is not None:
            centres = rendering.patch_centres(row["shape"][-3:], row["spacing"], view)
            index = np.arange(len(centres))
            positions.append(rendering.slice_position(row, "axial", centres[:, 0] - 0.5))
        else:
            index = np.array([-1])
            positions.append(np.array([np.nan]))
        counts.append(len(index))
        indices.append(index)
    owners = {name: np.repeat([r[name] for r in rows], counts) for name in ("scan", "patient", "group", "exam")}
    return pd.DataFrame(owners | {"slice": np.concatenate(indices), "position_mm": np.concatenate(positions)})


def _make(cohort: Path, drawn: list[channels.Drawn], table: pd.DataFrame, view: View, folder: Path) -> None:
    """Render into a folder of its own and rename it at the end; of two processes that do so, the first one wins."""
    shape = (len(table), view.channels, *[view.size] * view.spatial_dims)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    fresh.mkdir(parents=True)
    try:
        try:
            images = np.lib.format.open_memmap(fresh / "images.npy", "w+", np.uint8, shape)
        except OSError as error:
            raise MedsslError(f"no room for samples of {np.prod(shape) / 1e6:.0f} MB ({error.strerror})") from None
        indices = table["slice"].to_numpy()
        starts = np.searchsorted(
            np.cumsum(table["scan"].ne(table["scan"].shift()).to_numpy()), np.arange(len(drawn)) + 1
        )
        spans = list(zip(drawn, starts, [*starts[1:], len(table)], strict=True))

        def work(part: list) -> int:
            for own, start, stop in part:
                for channel, (row, shown) in enumerate(own):
                    out = images[start:stop, channel : channel + shown.channels]
                    _render(cohort, row, shown, indices[start:stop], out)
            return len(part)

        step = max(1, min(64, len(spans) // 64))
        with bar("samples", len(spans)) as progress, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for done in pool.map(work, [spans[i : i + step] for i in range(0, len(spans), step)]):
                progress.advance(done)
        images.flush()
        write_json(fresh / "view.json", view.model_dump(mode="json"))
        try:
            fresh.rename(folder)
        except OSError:
            if not (folder / "images.npy").is_file():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _render(cohort: Path, row: dict, view: View, indices: np.ndarray, out: np.ndarray) -> None:
    array, padding = read_array(cohort, row["scan"]), read_array(cohort, row["scan"], "padding")
    if array is None:
        raise MedsslError(f"the array of scan {row['scan']} is missing", cohort.name, "Ingest the source again.")
    if not rendering.is_volume(row):
        out[0] = rendering.render_image(array, row, padding, view)
    elif view.patches is not None:
        centres = rendering.patch_centres(row["shape"][-3:], row["spacing"], view)
        for place, index in enumerate(indices):
            out[place] = rendering.render_volume(array, row, padding, view, centres[index])
    elif view.spatial_dims == 3:
        out[0] = rendering.render_volume(array, row, padding, view)
    else:
        for place, index in enumerate(indices):
            out[place] = rendering.render_slice(array, row, padding, int(index), view)
