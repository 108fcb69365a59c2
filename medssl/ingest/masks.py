"""Label masks: files in a folder named labels, masks, ... become masks of the scan with the same name.

`images/case_7.nii.gz` and `labels/case_7.nii.gz` belong together, and so do a DICOM series and a mask that is named
after its PatientID or its folder, and `case_7.nii.gz` and `case_7_mask.nii.gz` in one folder. In a BIDS data set a mask
(`_roi`, `_dseg`, `_mask`) belongs to the images of its subject, session and run that lie on its grid. A mask must hold
whole numbers and lie on the grid of its scan.
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
from medssl.ingest import bids, readers
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.pool import map_chunks
from medssl.ingest.readers import nifti
from medssl.ingest.records import File, Ignore, Job, Probe, Reject
from medssl.ingest.reorient import turned_shape
from medssl.ingest.store import smallest_dtype
from medssl.progress import bar

FOLDERS = frozenset({"labels", "label", "masks", "mask", "labelstr", "labelsts", "segmentations", "segmentation"})
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs", "image", "scans", "nifti", "volumes")
BESIDE = "_mask"  # ends the name of a mask that lies beside its scan
READERS = ("nifti", "image")
GRID_TOLERANCE_MM = 0.01  # between the corners of mask and scan


def split(probes: list[Probe]) -> tuple[list[Probe], list[Probe]]:
    """(scans, masks): a mask lies in a folder of such a name beside, not above, the scans, or is named as one."""
    paths = {(p.file.root, without_ending(p.file.name)) for p in probes}
    is_mask = [p.reader in READERS and _is_mask(p.file, paths) for p in probes]
    if all(is_mask):  # a source with nothing but such folders holds scans that are called so
        return probes, []
    return [p for p, m in zip(probes, is_mask, strict=True) if not m], [
        p for p, m in zip(probes, is_mask, strict=True) if m
    ]


def read_all(probes: list[Probe], folder: Path, keys: Keys, fates: Fates, jobs: int | None) -> None:
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
    taken: set[str] = set()
    for probe in sorted(_whole(probes, fates), key=lambda p: bids.mask_rank(p.file)):
        try:
            scans = _scans_of(probe, names, rows, keys)
            if scans <= taken:
                raise Reject("second_mask")
        except Reject as verdict:
            fates.reject(_files(probe), verdict.code)
        except Ignore as verdict:
            for file in _files(probe):
                fates.ignore(file, verdict.code)
        else:
            todo += [(probe, scan, rows[scan]) for scan in sorted(scans - taken)]
            taken |= scans
    with bar("reading masks", len(todo)) as progress:
        for chunk in map_chunks(partial(_read_chunk, str(folder)), todo, 16, jobs):
            for probe, scan, code in chunk:
                if code:
                    fates.reject(_files(probe), code)
                else:
                    fates.accept(_files(probe), scan)
            progress.advance(len(chunk))


def _is_mask(file: File, paths: set[tuple[str, str]]) -> bool:
    if any(folder.lower() in FOLDERS for folder in _folders(file)) or bids.is_mask(file):
        return True
    path = without_ending(file.name)
    return path.endswith(BESIDE) and (file.root, path.removesuffix(BESIDE)) in paths


def _whole(probes: list[Probe], fates: Fates) -> list[Probe]:
    """Masks that are pairs of files, joined; halves without the other are refused."""
    whole, lost = nifti.join_pairs([p for p in probes if p.reader == "nifti"])
    for file, code in lost:
        fates.reject([file], code)
    return whole + [p for p in probes if p.reader != "nifti"]


def _files(probe: Probe) -> list[File]:
    partner = probe.header.data if probe.reader == "nifti" else None
    return [probe.file] if partner is None else [probe.file, partner]


def _scans_of(probe: Probe, names: dict[str, set[str]], rows: dict[str, Any], keys: Keys) -> set[str]:
    """The scans that a mask belongs to.

    Raises:
        Reject: none, or several by one name.
        Ignore: a BIDS mask in another space.
    """
    name = bids.mask_name(probe.file, keys)
    if name is None:
        scans = _by_name(probe.file, names, keys)
        if len(scans) != 1:
            raise Reject("mask_of_several" if scans else "mask_without_image")
        return scans
    same_run = names.get(name, set())
    on_grid = {scan for scan in same_run if probe.reader == "nifti" and _fits(probe.header, rows[scan])}
    if not on_grid and bids.is_in_another_space(probe.file):
        raise Ignore("bids_derivative")
    if not on_grid:
        raise Reject("mask_grid" if same_run else "mask_without_image")
    return on_grid


def _by_name(file: File, names: dict[str, set[str]], keys: Keys) -> set[str]:
    """The scans whose name fits, the surest way first: path beside or in a parallel folder, name, PatientID, folder."""
    path = without_ending(file.name)
    parts = PurePosixPath(path).parts
    paths = [path.removesuffix(BESIDE)] if path.endswith(BESIDE) else []
    place = next((i for i, part in enumerate(parts) if part.lower() in FOLDERS), None)
    if place is not None:
        paths += ["/".join([*parts[:place], beside, *parts[place + 1 :]]) for beside in IMAGE_FOLDERS]
    for path in paths:
        if found := names.get(keys.name("path", path)):
            return found
    stem = parts[-1]
    for kind in ("name", "patient", "folder"):
        for text in (stem, stem.removesuffix("_mask"), stem.removesuffix("_seg")):
            if found := names.get(keys.name(kind, text)):
                return found
    return set()


def _read_chunk(folder: str, todo: Sequence[tuple[Probe, str, dict[str, Any]]]) -> list[tuple[Probe, str, str | None]]:
    out: list[tuple[Probe, str, str | None]] = []
    for probe, scan, row in todo:
        try:
            _read(Path(folder), probe, scan, row)
            out.append((probe, scan, None))
        except Reject as verdict:
            out.append((probe, scan, verdict.code))
        except Exception:  # whatever a parser stumbles over in a damaged file
            out.append((probe, scan, "unreadable"))
    return out


def _read(folder: Path, probe: Probe, scan: str, row: dict[str, Any]) -> None:
    job = Job(probe.reader, scan, [probe.file], "", "", "", "", [], payload=probe.header)
    mask = readers.reader(probe.reader).read(job)
    image = read_array(folder, scan)
    if image is None or mask.kind == "colour" or mask.array.shape != image.shape[-mask.array.ndim :]:
        raise Reject("mask_grid")
    if mask.affine is not None and row["affine"] is not None and not _same_grid(mask.array.shape, mask.affine, row):
        raise Reject("mask_grid")
    labels = np.where(mask.padding, 0, mask.array) if mask.padding is not None else mask.array
    if not np.array_equal(labels, np.rint(labels)) or labels.min() < 0:
        raise Reject("mask_values")
    write_array(folder, scan, smallest_dtype(labels.astype(np.int64)), "mask")


def _fits(header: Any, row: dict[str, Any]) -> bool:
    """Whether a NIfTI's grid, once turned, is that of a scan."""
    shape, affine = turned_shape(header.shape[2::-1], header.affine)
    return list(shape) == json.loads(row["shape"]) and row["affine"] is not None and _same_grid(shape, affine, row)


def _same_grid(shape: tuple[int, ...], affine: np.ndarray, row: dict[str, Any]) -> bool:
    """Whether all corners of the two grids lie within the tolerance of each other."""
    other = np.asarray(json.loads(row["affine"]))
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[::-1]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((affine - other) @ corners).max() <= GRID_TOLERANCE_MM)


def _folders(file: File) -> tuple[str, ...]:
    return PurePosixPath(file.name).parts[:-1]
