"""Label masks: files in a folder named labels, masks, ..., and DICOM SEG objects, become masks of a scan.

`images/case_7.nii.gz` and `labels/case_7.nii.gz` belong together, and so do a DICOM series and a mask that is named
after its PatientID or its folder, and `case_7.nii.gz` and `case_7_mask.nii.gz` in one folder; a SEG says which images
it was drawn on; a mask of BIDS (`_roi`, `_dseg`, `_mask`) belongs to the images of its subject, session and run that
lie on its grid. A mask must hold whole numbers and lie on the grid of its scan. A scan has one mask: of several none is
used, since each may lack what the others hold.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from medssl.cohort import catalog
from medssl.cohort.arrays import array_path, remove_array
from medssl.errors import MedsslError
from medssl.ingest import bids, findings, readers
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.pool import map_chunks
from medssl.ingest.readers import nifti
from medssl.ingest.readers.dicom import segmentation
from medssl.ingest.readers.dicom.segmentation import Segmentation
from medssl.ingest.records import File, Ignore, Job, Probe, Reject
from medssl.ingest.reorient import turned_shape
from medssl.ingest.store import smallest_dtype, write
from medssl.progress import bar

FOLDERS = frozenset({"labels", "label", "masks", "mask", "labelstr", "labelsts", "segmentations", "segmentation"})
IMAGE_FOLDERS = ("images", "imagesTr", "imagesTs", "image", "scans", "nifti", "volumes")
BESIDE = "_mask"  # ends the name of a mask that lies beside its scan
READERS = ("nifti", "image")
GRID_TOLERANCE_MM = 0.01  # between the corners of mask and scan


class Target(NamedTuple):
    """A scan, and which frames of a SEG are its."""

    scan: str
    frames: tuple[int, ...] = ()


class Work(NamedTuple):
    """One mask to be read: `row` is its scan's grid and `source` the state of both files."""

    probe: Probe
    target: Target
    row: dict[str, Any]
    source: str


def split(probes: list[Probe]) -> tuple[list[Probe], list[Probe]]:
    """(scans, masks): a mask is a SEG, or lies in a folder of such a name beside, not above, the scans."""
    drawn = [p for p in probes if isinstance(p.header, Segmentation)]
    others = [p for p in probes if not isinstance(p.header, Segmentation)]
    paths = {(p.file.root, without_ending(p.file.name)) for p in others}
    named = [p for p in others if p.reader in READERS and _is_mask(p.file, paths)]
    if len(named) == len(others):  # a source with nothing but such folders holds scans that are called so
        return others, drawn
    ids = {p.file.id for p in named}
    return [p for p in others if p.file.id not in ids], named + drawn


def read_all(probes: list[Probe], plan: list[Job], folder: Path, keys: Keys, fates: Fates, jobs: int | None) -> None:
    """Store every mask beside its scan, and enter the verdict on its file. What has not changed is not read again.

    Args:
        plan: of this run's scans: a SEG names the images that they are made of.
    """
    with catalog.reading(folder) as db:
        known = {scan: (file, source) for scan, file, source in db.execute("SELECT scan, file, source FROM masks")}
        if not probes and not known:
            return
        rows = {
            scan: {"shape": _grid(kind, shape), "affine": json.loads(affine) if affine else None, "source": source}
            for scan, kind, shape, affine, source in db.execute("SELECT scan, kind, shape, affine, source FROM scans")
        }
        targets = _targets(probes, plan, rows, db, keys, fates)
    kept: set[str] = set()
    claims = Counter(target.scan for _, target in targets)
    todo: list[Work] = []
    for probe, target in targets:
        file, (owner, source) = probe.file, known.get(target.scan, ("", ""))
        parts = [f"{f.id} {f.size} {f.mtime_ns}" for f in _files(probe)]
        state = f"{keys.source('mask', *parts)} {rows[target.scan]['source']}"
        if claims[target.scan] > 1 or (owner not in ("", file.id) and owner not in fates.files):
            fates.reject(_files(probe), "mask_repeated")
        elif source == state and array_path(folder, target.scan, "mask").is_file():
            fates.accept(_files(probe), target.scan)
            kept.add(target.scan)
        else:
            todo.append(Work(probe, target, rows[target.scan], state))
    with bar("reading masks", len(todo)) as progress:
        for chunk in map_chunks(partial(_read_chunk, str(folder)), todo, 16, jobs):
            with catalog.writing(folder) as db:
                for work, code, note in chunk:
                    if code:
                        fates.reject(_files(work.probe), code)
                        continue
                    finding = findings.row(note) if note else None
                    catalog.put_mask(db, work.target.scan, work.probe.file.id, work.source, finding)
                    fates.accept(_files(work.probe), work.target.scan)
                    kept.add(work.target.scan)
            progress.advance(len(chunk))
    for scan, (owner, state) in known.items():  # masks whose file or scan is no longer what it was
        if (
            scan in rows
            and scan not in kept
            and (owner in fates.files or not state.endswith(f" {rows[scan]['source']}"))
        ):
            with catalog.writing(folder) as db:
                catalog.remove_mask(db, scan)
            remove_array(folder, scan, "mask")


def _targets(
    probes: list[Probe], plan: list[Job], rows: dict[str, dict], db: sqlite3.Connection, keys: Keys, fates: Fates
) -> list[tuple[Probe, Target]]:
    """Which scan each mask belongs to; a SEG may be drawn on several stacks of a series. Others are rejected here."""
    names: dict[str, set[str]] = defaultdict(set)
    for key, scan in db.execute("SELECT key, scan FROM names"):
        names[key].add(scan)
    wanted = {uid for p in probes if isinstance(p.header, Segmentation) for uid in p.header.instances}
    instances: dict[str, set[str]] = defaultdict(set)
    for job in plan if wanted else ():
        for header in job.payload.headers if job.reader == "dicom" else ():
            if header.sop in wanted:
                instances[header.sop].add(job.scan)
    out: list[tuple[Probe, Target]] = []
    seen: set[str] = set()
    ranks: dict[str, int] = {}  # of the BIDS masks, the most specific of each scan
    for probe in sorted(_whole(probes, fates), key=lambda p: bids.mask_rank(p.file)):
        try:
            if isinstance(probe.header, Segmentation):
                if probe.header.sop in seen:
                    raise Ignore("repeated_instance")
                seen.add(probe.header.sop)
                out += [(probe, target) for target in _drawn_on(probe.header, instances, names, rows, keys)]
                continue
            if bids.is_mask(probe.file):
                rank = bids.mask_rank(probe.file)
                scans = {s for s in _on_its_grid(probe, names, rows, keys) if ranks.setdefault(s, rank) == rank}
                if not scans:
                    raise Ignore("bids_wider_mask")
            else:
                scans = _scans_of(probe.file, names, keys) & rows.keys()
                if len(scans) != 1:
                    raise Reject("mask_of_several" if scans else "mask_without_image")
            out += [(probe, Target(scan)) for scan in sorted(scans)]
        except Ignore as verdict:
            for file in _files(probe):
                fates.ignore(file, verdict.code)
        except Reject as verdict:
            fates.reject(_files(probe), verdict.code)
    return out


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


def _on_its_grid(probe: Probe, names: dict[str, set[str]], rows: dict[str, dict], keys: Keys) -> set[str]:
    """The scans of a BIDS mask's subject, session and run that lie on its grid: one, or the time points of one.

    Raises:
        Reject: there are none.
        Ignore: there are none, and its name says that it lies in another space.
    """
    same_run = names.get(bids.mask_name(probe.file, keys) or "", set()) & rows.keys()
    scans = {scan for scan in same_run if probe.reader == "nifti" and _fits(probe.header, rows[scan])}
    if not scans and bids.is_in_another_space(probe.file):
        raise Ignore("bids_derivative")
    if not scans:
        raise Reject("mask_grid" if same_run else "mask_without_image")
    return scans


def _drawn_on(
    header: Segmentation, instances: dict[str, set[str]], names: dict[str, set[str]], rows: dict[str, dict], keys: Keys
) -> list[Target]:
    """The scans on whose grids the frames lie, among those made of the images, or at least the series, that it names.

    Raises:
        Reject: mask_without_image; mask_grid where a frame lies on no grid; mask_of_several where on more than one.
    """
    scans = {scan for uid in header.instances for scan in instances.get(uid, ())} & rows.keys()
    if not scans:
        scans = {scan for uid in header.series for scan in names.get(keys.name("uid", uid), ())} & rows.keys()
    if not scans:
        raise Reject("mask_without_image")
    found = {scan: segmentation.frames_on(header, rows[scan]["shape"], rows[scan]["affine"]) for scan in scans}
    owners = Counter(frame for frames in found.values() for frame in frames)
    if len(owners) < len(header.frames):
        raise Reject("mask_grid")
    if max(owners.values()) > 1:
        raise Reject("mask_of_several")
    return [Target(scan, tuple(frames)) for scan, frames in sorted(found.items()) if frames]


def _scans_of(file: File, names: dict[str, set[str]], keys: Keys) -> set[str]:
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


def _read_chunk(folder: str, todo: Sequence[Work]) -> list[tuple[Work, str, str]]:
    """(work, code of a rejection, code of a finding) of each mask."""
    out = []
    for work in todo:
        code = note = ""
        try:
            note = _read(Path(folder), work)
        except Reject as verdict:
            code = verdict.code
        except MedsslError:  # the cohort cannot be written: no fault of the file
            raise
        except Exception:  # whatever a parser stumbles over in a damaged file
            code = "unreadable"
        out.append((work, code, note))
    return out


def _read(folder: Path, work: Work) -> str:
    """Store the mask; returns the code of a finding, or nothing."""
    probe, row, scan = work.probe, work.row, work.target.scan
    if isinstance(probe.header, Segmentation):
        labels = segmentation.read(probe.file, probe.header, list(work.target.frames), row["shape"], row["affine"])
        write(folder, scan, smallest_dtype(labels.reshape(row["shape"]).astype(np.int64)), "mask")
        return "mask_fractional" if probe.header.kind == "FRACTIONAL" else ""
    job = Job(probe.reader, scan, [probe.file], "", "", "", "", [], payload=probe.header)
    mask = readers.reader(probe.reader).read(job)
    if mask.kind == "colour" or mask.array.shape != row["shape"]:
        raise Reject("mask_grid")
    located = mask.affine is not None and row["affine"] is not None
    if located and not _same_grid(mask.array.shape, mask.affine, row["affine"]):
        raise Reject("mask_grid")
    labels = np.where(mask.padding, 0, mask.array) if mask.padding is not None else mask.array
    if not np.array_equal(labels, np.rint(labels)) or labels.min() < 0:
        raise Reject("mask_values")
    write(folder, scan, smallest_dtype(labels.astype(np.int64)), "mask")
    return ""


def _grid(kind: str, shape: str) -> tuple[int, ...]:
    """(z, y, x), or (y, x): what a mask of the scan must be."""
    return tuple(json.loads(shape))[-3 if kind in ("volume", "colour_volume") else -2 :]


def _fits(header: Any, row: dict[str, Any]) -> bool:
    """Whether a NIfTI's grid, once turned, is that of a scan."""
    shape, affine = turned_shape(header.shape[2::-1], header.affine)
    return shape == row["shape"] and row["affine"] is not None and _same_grid(shape, affine, row["affine"])


def _same_grid(shape: tuple[int, ...], first: Any, second: Any) -> bool:
    """Whether all corners of the two grids lie within the tolerance of each other."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[::-1]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((np.asarray(first) - np.asarray(second)) @ corners).max() <= GRID_TOLERANCE_MM)


def _folders(file: File) -> tuple[str, ...]:
    return PurePosixPath(file.name).parts[:-1]
