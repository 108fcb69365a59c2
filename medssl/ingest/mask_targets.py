"""Which scans a mask belongs to: by its name and folder, by BIDS, or by what a DICOM SEG says that it was drawn on."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from medssl.ingest import bids
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.readers import nifti
from medssl.ingest.readers.dicom import segmentation
from medssl.ingest.readers.dicom.segmentation import Segmentation
from medssl.ingest.records import File, Ignore, Job, Probe, Reject
from medssl.ingest.reorient import turned_shape

FOLDERS = frozenset({"labels", "label", "masks", "mask", "labelstr", "labelsts", "segmentations", "segmentation"})
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs", "image", "scans", "nifti", "volumes")
BESIDE = "_mask"  # ends the name of a mask that lies beside its scan
READERS = ("nifti", "image")
GRID_TOLERANCE_MM = 0.01  # between the corners of mask and scan


class Grid(NamedTuple):
    """Of a scan: (z, y, x) or (y, x), 4 x 4 to RAS+ mm or None, and the digest of its files."""

    shape: tuple[int, ...]
    affine: np.ndarray | None
    source: str


class Target(NamedTuple):
    """A mask and one of its scans: which files it is, which frames of a SEG are that scan's, its rank among others."""

    probe: Probe
    scan: str
    files: tuple[File, ...]
    frames: tuple[int, ...] = ()
    rank: int = 0


def split(probes: list[Probe]) -> tuple[list[Probe], list[Probe]]:
    """(scans, masks): a SEG is a mask, and what lies in a folder of such a name beside scans, or is named as one."""
    drawn = [p for p in probes if isinstance(p.header, Segmentation)]
    others = [p for p in probes if not isinstance(p.header, Segmentation)]
    paths = {(p.file.root, without_ending(p.file.name)) for p in others}
    is_mask = [p.reader in READERS and _is_mask(p.file, paths) for p in others]
    if all(is_mask):  # a source with nothing but such folders holds scans that are called so
        return others, drawn
    scans = [p for p, m in zip(others, is_mask, strict=True) if not m]
    return scans, [p for p, m in zip(others, is_mask, strict=True) if m] + drawn


def grids(db: sqlite3.Connection) -> dict[str, Grid]:
    """Of all scans of the catalog."""
    rows = db.execute("SELECT scan, kind, shape, affine, source FROM scans")
    return {
        scan: Grid(
            tuple(json.loads(shape))[-3 if kind in ("volume", "colour_volume") else -2 :],
            np.asarray(json.loads(affine)) if affine else None,
            source or "",
        )
        for scan, kind, shape, affine, source in rows
    }


def targets(
    probes: list[Probe], plan: list[Job], known: dict[str, Grid], db: sqlite3.Connection, keys: Keys, fates: Fates
) -> list[Target]:
    """The scans of all masks; what has none, or does not fit, is entered as rejected or ignored.

    Args:
        plan: of this run's scans: a SEG names the images that they are made of.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for key, scan in db.execute("SELECT key, scan FROM names"):
        names[key].add(scan)
    instances = _instances(probes, plan)
    out: list[Target] = []
    seen: set[str] = set()
    for probe in _whole(probes, fates):
        files = _files(probe)
        try:
            if not isinstance(probe.header, Segmentation):
                rank = bids.mask_rank(probe.file)
                out += [Target(probe, s, files, (), rank) for s in sorted(_scans_of(probe, names, known, keys))]
            elif probe.header.sop in seen:
                raise Ignore("repeated_instance")
            else:
                seen.add(probe.header.sop)
                found = _drawn_on(probe.header, instances, names, known, keys)
                out += [Target(probe, scan, files, frames) for scan, frames in found]
        except Reject as verdict:
            fates.reject(list(files), verdict.code)
        except Ignore as verdict:
            for file in files:
                fates.ignore(file, verdict.code)
    return out


def same_grid(shape: tuple[int, ...], affine: np.ndarray, grid: Grid) -> bool:
    """Whether all corners of a grid lie within the tolerance of those of a scan."""
    if shape != grid.shape or grid.affine is None:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in (*shape[::-1], 1)[:3]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((affine - grid.affine) @ corners).max() <= GRID_TOLERANCE_MM)


def _instances(probes: list[Probe], plan: list[Job]) -> dict[str, set[str]]:
    """The scans made of each image that a SEG names, by UID."""
    wanted = {uid for p in probes if isinstance(p.header, Segmentation) for uid in p.header.instances}
    found: dict[str, set[str]] = defaultdict(set)
    for job in plan if wanted else ():
        for header in job.payload.headers if job.reader == "dicom" else ():
            if header.sop in wanted:
                found[header.sop].add(job.scan)
    return found


def _drawn_on(
    header: Segmentation, instances: dict[str, set[str]], names: dict[str, set[str]], known: dict[str, Grid], keys: Keys
) -> list[tuple[str, tuple[int, ...]]]:
    """The scans on whose grids the frames of a SEG lie, among those made of the images, or at least the series, that it
    names; each with its frames.

    Raises:
        Reject: mask_without_image; mask_grid where a frame lies on no grid; mask_of_several where on more than one.
    """
    scans = {scan for uid in header.instances for scan in instances.get(uid, ())} & known.keys()
    if not scans:
        scans = {scan for uid in header.series for scan in names.get(keys.name("uid", uid), ())} & known.keys()
    if not scans:
        raise Reject("mask_without_image")
    found = [(s, tuple(segmentation.frames_on(header, known[s].shape, known[s].affine))) for s in sorted(scans)]
    owners = [frame for _, frames in found for frame in frames]
    if len(set(owners)) < len(header.frames):
        raise Reject("mask_grid")
    if len(owners) > len(set(owners)):
        raise Reject("mask_of_several")
    return [(scan, frames) for scan, frames in found if frames]


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


def _files(probe: Probe) -> tuple[File, ...]:
    partner = probe.header.data if probe.reader == "nifti" else None
    return (probe.file,) if partner is None else (probe.file, partner)


def _scans_of(probe: Probe, names: dict[str, set[str]], known: dict[str, Grid], keys: Keys) -> set[str]:
    """The scans that a mask belongs to.

    Raises:
        Reject: none, or several by one name.
        Ignore: a BIDS mask in another space.
    """
    name = bids.mask_name(probe.file, keys)
    if name is None:
        scans = _by_name(probe.file, names, keys) & known.keys()
        if len(scans) != 1:
            raise Reject("mask_of_several" if scans else "mask_without_image")
        return scans
    same_run = names.get(name, set()) & known.keys()
    on_grid = {scan for scan in same_run if probe.reader == "nifti" and _fits(probe.header, known[scan])}
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


def _fits(header: Any, grid: Grid) -> bool:
    """Whether a NIfTI's grid, once turned, is that of a scan."""
    return same_grid(*turned_shape(header.shape[2::-1], header.affine), grid)


def _folders(file: File) -> tuple[str, ...]:
    return PurePosixPath(file.name).parts[:-1]
