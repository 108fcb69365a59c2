"""Label masks: files in a folder named labels, masks, ... become masks of the scan with the same name.

`images/case_7.nii.gz` and `labels/case_7.nii.gz` belong together, and so do a DICOM series and a mask that is named
after its PatientID or its folder. A mask must hold whole numbers and lie on the grid of its scan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medssl.cohort import catalog
from medssl.cohort.arrays import read_array, write_array
from medssl.ingest import readers
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.pool import map_chunks
from medssl.ingest.records import File, Job, Probe, Reject
from medssl.ingest.store import smallest_dtype
from medssl.progress import bar

FOLDERS = frozenset({"labels", "label", "masks", "mask", "labelstr", "labelsts", "segmentations", "segmentation"})
READERS = ("nifti", "image")
GRID_TOLERANCE_MM = 0.01  # between the corners of mask and scan


def split(probes: list[Probe]) -> tuple[list[Probe], list[Probe]]:
    """(scans, masks): a mask lies in a folder of such a name beside, not above, the scans."""
    is_mask = [p.reader in READERS and any(f.lower() in FOLDERS for f in _folders(p.file)) for p in probes]
    if all(is_mask):  # a source with nothing but such folders holds scans that are called so
        return probes, []
    return [p for p, m in zip(probes, is_mask, strict=True) if not m], [
        p for p, m in zip(probes, is_mask, strict=True) if m
    ]


def read_all(probes: list[Probe], folder: Path, keys: Keys, fates: Fates, jobs: int) -> None:
    """Store every mask beside its scan, and enter the verdict on its file."""
    if not probes:
        return
    with catalog.reading(folder) as db:
        names: dict[str, set[str]] = {}
        for key, scan in db.execute("SELECT key, scan FROM names"):
            names.setdefault(key, set()).add(scan)
        rows = {
            scan: {"shape": shape, "affine": affine, "kind": kind}
            for scan, shape, affine, kind in db.execute("SELECT scan, shape, affine, kind FROM scans")
        }
    todo: list[tuple[Probe, str, dict[str, Any]]] = []
    for probe in probes:
        scans = _scans_of(probe.file, names, keys)
        if len(scans) == 1:
            scan = next(iter(scans))
            todo.append((probe, scan, rows[scan]))
        else:
            fates.reject([probe.file], "mask_of_several" if scans else "mask_without_image")
    with bar("reading masks", len(todo)) as progress:
        for chunk in map_chunks(partial(_read_chunk, str(folder)), todo, 16, jobs, _lost):
            for file, scan, code in chunk:
                if code:
                    fates.reject([file], code)
                else:
                    fates.accept([file], scan)
            progress.advance(len(chunk))


def _scans_of(file: File, names: dict[str, set[str]], keys: Keys) -> set[str]:
    """The scans whose name fits, the surest way first: path in a parallel folder, file name, PatientID, folder."""
    parts = list(PurePosixPath(without_ending(file.name)).parts)
    stem = parts[-1]
    place = next(i for i, part in enumerate(parts) if part.lower() in FOLDERS)
    for beside in ("images", "imagesTr", "imagesTs", "image", "scans", "nifti", "volumes"):
        path = "/".join([*parts[:place], beside, *parts[place + 1 :]])
        if found := names.get(keys.name("path", path)):
            return found
    for kind in ("name", "patient", "folder"):
        for text in (stem, stem.removesuffix("_mask"), stem.removesuffix("_seg")):
            if found := names.get(keys.name(kind, text)):
                return found
    return set()


def _read_chunk(folder: str, todo: Sequence[tuple[Probe, str, dict[str, Any]]]) -> list[tuple[File, str, str | None]]:
    out: list[tuple[File, str, str | None]] = []
    for probe, scan, row in todo:
        try:
            _read(Path(folder), probe, scan, row)
            out.append((probe.file, scan, None))
        except Reject as verdict:
            out.append((probe.file, scan, verdict.code))
        except Exception:  # whatever a parser stumbles over in a damaged file
            out.append((probe.file, scan, "unreadable"))
    return out


def _lost(item: tuple[Probe, str, dict[str, Any]], code: str) -> list[tuple[File, str, str | None]]:
    return [(item[0].file, item[1], code)]


def _read(folder: Path, probe: Probe, scan: str, row: dict[str, Any]) -> None:
    job = Job(probe.reader, scan, [probe.file], "", "", "", "", [], payload=probe.header)
    mask = readers.reader(probe.reader).read(job)
    image = read_array(folder, scan)
    if image is None or mask.kind == "colour" or mask.array.shape != image.shape[-mask.array.ndim :]:
        raise Reject("mask_grid")
    if mask.affine is not None and row["affine"] is not None and not _same_grid(mask, row):
        raise Reject("mask_grid")
    labels = np.where(mask.padding, 0, mask.array) if mask.padding is not None else mask.array
    if not np.array_equal(labels, np.rint(labels)) or labels.min() < 0:
        raise Reject("mask_values")
    write_array(folder, scan, smallest_dtype(labels.astype(np.int64)), "mask")


def _same_grid(mask: Any, row: dict[str, Any]) -> bool:
    """Whether all corners of the two grids lie within the tolerance of each other."""
    affine = np.asarray(json.loads(row["affine"]))
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.array.shape[::-1]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((mask.affine - affine) @ corners).max() <= GRID_TOLERANCE_MM)


def _folders(file: File) -> tuple[str, ...]:
    return PurePosixPath(file.name).parts[:-1]
