"""Label masks beside their scans: read, checked against the scan's grid, stored.

Files in a folder named labels, masks, ..., files named `case_7_mask` beside `case_7`, masks of a BIDS data set and
DICOM SEG objects become masks of scans; `mask_targets` says of which. A mask must hold whole numbers and lie on its
scan's grid. A scan has one mask: of several of the same rank none is used, since each may lack what the others hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl.cohort import catalog
from medssl.cohort.arrays import array_path, remove_array
from medssl.errors import MedsslError
from medssl.ingest import findings, mask_targets, readers
from medssl.ingest.fates import Fates
from medssl.ingest.identity import Keys
from medssl.ingest.mask_targets import Grid, Target, split
from medssl.ingest.pool import map_chunks
from medssl.ingest.readers.dicom import segmentation
from medssl.ingest.readers.dicom.segmentation import Segmentation
from medssl.ingest.records import Job, Probe, Reject
from medssl.ingest.store import smallest_dtype, write
from medssl.progress import bar

__all__ = ["read_all", "split"]


class Work(NamedTuple):
    """One mask to be read; `source` names the state of its files and of its scan."""

    target: Target
    grid: Grid
    source: str


def read_all(probes: list[Probe], plan: list[Job], folder: Path, keys: Keys, fates: Fates, jobs: int) -> None:
    """Store every mask beside its scan, and enter the verdict on its file. What has not changed is not read again.

    Args:
        plan: of this run's scans.
    """
    with catalog.reading(folder) as db:
        known = {scan: (file, source) for scan, file, source in db.execute("SELECT scan, file, source FROM masks")}
        if not probes and not known:
            return
        grids = mask_targets.grids(db)
        refused = {key: (source, code) for key, source, code in db.execute("SELECT scan, source, code FROM refused")}
        chosen = _one_a_scan(mask_targets.targets(probes, plan, grids, db, keys, fates), known, fates)
    kept: set[str] = set()
    todo: list[Work] = []
    for target in chosen:
        state = [f"{file.id} {file.size} {file.mtime_ns}" for file in target.files]
        work = Work(target, grids[target.scan], f"{keys.source('mask', *state)} {grids[target.scan].source}")
        same = known.get(target.scan, ("", ""))[1] == work.source
        if same and array_path(folder, target.scan, "mask").is_file():
            fates.accept(list(target.files), target.scan)
            kept.add(target.scan)
        elif refused.get(_refusal(target), ("", ""))[0] == work.source:
            fates.reject(list(target.files), refused[_refusal(target)][1])
        else:
            todo.append(work)
    with bar("reading masks", len(todo)) as progress:
        for chunk in map_chunks(partial(_read_chunk, str(folder)), todo, 16, jobs, _lost):
            with catalog.writing(folder) as db:
                for work, code, note in chunk:
                    files, scan = list(work.target.files), work.target.scan
                    if code:
                        fates.reject(files, code)
                        catalog.refuse(db, _refusal(work.target), work.source, code)
                        continue
                    catalog.put_mask(db, scan, files[0].id, work.source, findings.row(note) if note else None)
                    fates.accept(files, scan)
                    kept.add(scan)
            progress.advance(len(chunk))
    for scan, (owner, state) in known.items():  # masks whose file or scan is no longer what it was
        if scan in grids and scan not in kept and (owner in fates.files or state.split(" ")[1] != grids[scan].source):
            with catalog.writing(folder) as db:
                catalog.remove_mask(db, scan)
            remove_array(folder, scan, "mask")


def _refusal(target: Target) -> str:
    """Under which a refused mask is remembered."""
    return f"{target.files[0].id} {target.scan}"


def _one_a_scan(targets: list[Target], known: dict[str, tuple[str, str]], fates: Fates) -> list[Target]:
    """The mask of each scan: that of the best rank; none where several have it, and none against an earlier source's.

    Args:
        known: file and state of the masks that the catalog has, by scan.
    """
    claims: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        claims[target.scan].append(target)
    chosen: list[Target] = []
    for scan, claim in claims.items():
        owner = known.get(scan, ("", ""))[0]
        best = [t for t in claim if t.rank == min(t.rank for t in claim)]
        foreign = owner != "" and owner not in fates.files
        code = "second_mask" if foreign else "mask_repeated"
        wins = len(best) == 1 and not foreign
        chosen += best if wins else []
        for target in claim:
            if target.rank > best[0].rank:
                fates.reject(list(target.files), "second_mask")
            elif not wins:
                fates.reject(list(target.files), code)
    return chosen


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


def _lost(work: Work, code: str) -> list[tuple[Work, str, str]]:
    return [(work, code, "")]


def _read(folder: Path, work: Work) -> str:
    """Store the mask; returns the code of a finding, or nothing."""
    target, grid = work.target, work.grid
    probe, header = target.probe, target.probe.header
    if isinstance(header, Segmentation):
        labels = segmentation.read(probe.file, header, list(target.frames), grid.shape, grid.affine)
        write(folder, target.scan, smallest_dtype(labels.reshape(grid.shape).astype(np.int64)), "mask")
        return "mask_fractional" if header.kind == "FRACTIONAL" else ""
    mask = readers.reader(probe.reader).read(
        Job(probe.reader, target.scan, [*target.files], "", "", "", "", [], "", header)
    )
    if mask.kind in ("colour", "colour_volume") or mask.array.shape != grid.shape:
        raise Reject("mask_grid")
    placed = mask.affine is not None and grid.affine is not None
    if placed and not mask_targets.same_grid(grid.shape, mask.affine, grid):
        raise Reject("mask_grid")
    labels = np.where(mask.padding, 0, mask.array) if mask.padding is not None else mask.array
    if not np.array_equal(labels, np.rint(labels)) or labels.min() < 0:
        raise Reject("mask_values")
    write(folder, target.scan, smallest_dtype(labels.astype(np.int64)), "mask")
    return ""
