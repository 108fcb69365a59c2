"""Out again: the scans of a cohort as files that other programs read, and an index of them.

Volumes, and images that know where they lie, become `SCAN.nii.gz`; other images PNG, or TIFF where PNG has no such
pixels. `SCAN_mask` and `SCAN_padding` lie beside them on the same grid, and an ingest of the folder takes them as what
they are: `medssl ingest OUT --labels OUT/index.csv --patient-column patient` gives the same arrays again.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medssl.cohort import Cohort, catalog
from medssl.cohort.arrays import PARTS, array_path, read_array
from medssl.errors import MedsslError, UserError
from medssl.ingest.pool import map_chunks, usable_cpus
from medssl.progress import bar, say
from medssl.workspace import atomic, digest, lock, read_lines, write_text

INDEX = "index.csv"
WORTH_A_PROCESS = 64 << 20  # bytes to pack, from which a process pays
STATE = ".medssl_export.jsonl"  # what is finished: a line a scan, after its files are whole
COLUMNS = ("scan", "patient", "exam", "series", "time_point", "modality", "unit", "kind", "spacing_mm",
           "file", "mask", "padding")  # fmt: skip
PNG_TYPES = ("uint8", "uint16")
LEVEL = 1  # of gzip: 6 takes three times as long, for 5 % less of a T1
GIB = 1 << 30


def export_nifti(cohort: Cohort | str | Path, out: str | Path, *, jobs: int | None = None) -> dict[str, Any]:
    """Write every scan of the cohort into the folder `out`, or go on where an earlier run stopped.

    What is there already is kept, what has changed is written anew, and files of scans that are gone are removed.

    Returns:
        {"folder", "index", "scans", "written", "kept", "removed", "not_written", "bytes"}; `not_written` counts colour
        volumes of more than 8 bits, which NIfTI cannot hold.

    Raises:
        UserError: `out` holds something else, or the export of another cohort, or lies in the cohort.
        MedsslError: the disk is full, or cannot be written.
    """
    cohort = cohort if isinstance(cohort, Cohort) else Cohort.open(cohort)
    folder = Path(out).expanduser().resolve()
    _claim(folder, cohort)
    with lock(folder / ".lock", "exporting into", "Wait until it ends, or name another folder."):
        return _export(cohort, folder, jobs)


def _claim(folder: Path, cohort: Cohort) -> None:
    """Make the folder, or see that it is an earlier export of this cohort."""
    if folder.is_relative_to(cohort.path):
        raise UserError("the export would lie inside the cohort", str(folder), "Name a folder outside of it.")
    state = folder / STATE
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not state.is_file())):
        raise UserError("the folder holds something else", str(folder), "Name a new or empty folder.")
    lines = read_lines(state)
    if lines and lines[0]["cohort"] != cohort.name:
        raise UserError("the folder holds the export of another cohort", str(folder), "Name a new or empty folder.")
    if not lines:
        write_text(state, json.dumps({"cohort": cohort.name}) + "\n")


def _export(cohort: Cohort, folder: Path, jobs: int | None) -> dict[str, Any]:
    rows = {row["scan"]: row for row in cohort.scans().to_dict("records")}
    states = {scan: _state(cohort.path, row) for scan, row in rows.items()}
    done, removed = _tidy(folder, states)
    todo = [row for scan, row in rows.items() if scan not in done]
    room = _bytes(todo)
    free = shutil.disk_usage(folder).free
    say(f"{len(todo)} of {len(rows)} scans to write: at most {room / GIB:.2f} GiB and masks; {free / GIB:.1f} are free")
    size = max(1, min(64, len(todo) // 16))
    if jobs is None:
        jobs = min(usable_cpus(), len(todo) // 32 + room // WORTH_A_PROCESS)
    work = partial(_write_chunk, str(cohort.path), str(folder))
    with (folder / STATE).open("a", encoding="utf-8") as log, bar("exporting", len(rows), len(done)) as progress:
        for chunk in map_chunks(work, todo, size, jobs, _lost, _bytes):
            for scan, files in chunk:
                done[scan] = files
                log.write(json.dumps({"scan": scan, "state": states[scan], "files": files}) + "\n")
            log.flush()
            progress.advance(len(chunk))
    _write_index(cohort, folder, rows, done)
    names = [name for files in done.values() for name in files.values()]
    return {
        "folder": str(folder),
        "index": str(folder / INDEX),
        "scans": len(rows),
        "written": sum(bool(done[row["scan"]]) for row in todo),
        "kept": len(rows) - len(todo),
        "removed": removed,
        "not_written": sum(not files for files in done.values()),
        "bytes": sum((folder / name).stat().st_size for name in names),
    }


def _state(cohort: Path, row: Any) -> str:
    """What decides the files of a scan."""
    stats = [path.stat() for path in (array_path(cohort, row["scan"], part) for part in PARTS[1:]) if path.exists()]
    return digest([row["content_hash"], row["affine"], row["kind"], [(s.st_size, s.st_mtime_ns) for s in stats]])


def _tidy(folder: Path, states: dict[str, str]) -> tuple[dict[str, dict[str, str]], int]:
    """Files of the scans that are finished and unchanged; all other files of earlier runs are removed and counted."""
    done: dict[str, dict[str, str]] = {}
    old: set[str] = set()
    for line in read_lines(folder / STATE)[1:]:
        done.pop(line["scan"], None)
        old.update(line["files"].values())
        whole = all((folder / name).is_file() for name in line["files"].values())
        if states.get(line["scan"]) == line["state"] and whole:
            done[line["scan"]] = line["files"]
    removed = 0
    for name in old - {name for files in done.values() for name in files.values()}:
        removed += (folder / name).is_file()
        (folder / name).unlink(missing_ok=True)
    for fresh in folder.glob(".s*"):  # what a killed run left under temporary names
        fresh.unlink(missing_ok=True)
    return done, removed


def _bytes(rows: Sequence[Any]) -> int:
    return sum(math.prod(row["shape"]) * np.dtype(row["dtype"]).itemsize for row in rows)


def _lost(row: Any, code: str) -> Any:
    fix = "Free memory, then run the same command again: it goes on where it stopped."
    raise MedsslError("the process that wrote a scan did not end well", row["scan"], fix)


def _write_chunk(cohort: str, folder: str, rows: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """(scan, {"file": ..., "mask": ..., "padding": ...}) of each; no file where none can hold it."""
    try:
        return [(row["scan"], _write_scan(Path(cohort), Path(folder), row)) for row in rows]
    except OSError as error:
        fix = "Make room, then run the same command again: it goes on where it stopped."
        raise MedsslError(f"the export cannot be written ({error.strerror})", "", fix) from None


def _write_scan(cohort: Path, folder: Path, row: dict[str, Any]) -> dict[str, str]:
    scan, kind, affine = row["scan"], row["kind"], row["affine"]
    located = kind in ("volume", "colour_volume") or affine is not None
    deep = kind in ("colour", "colour_volume") and row["dtype"] != "uint8"
    if deep and kind == "colour_volume":
        return {}
    files: dict[str, str] = {}
    for part in PARTS:
        array = read_array(cohort, scan, part)
        if array is None:
            continue
        array = array.astype(np.uint8) if array.dtype == bool else array
        colour = part == "" and kind in ("colour", "colour_volume")
        write = partial(_write_nifti, affine=affine) if located and not deep else _write_picture
        files[part or "file"] = write(folder, f"{scan}_{part}" if part else scan, array, colour)
    return files


def _write_nifti(folder: Path, stem: str, array: np.ndarray, colour: bool, affine: Any) -> str:
    """(z, y, x) or (y, x), with colours first, as NIfTI (x, y, z) in mm."""
    import nibabel as nib

    if colour:
        array = np.ascontiguousarray(np.moveaxis(array, 0, -1)).view([(c, "u1") for c in "RGB"])[..., 0]
    xyz = array.T if array.ndim == 3 else array.T[..., None]
    if affine is None:
        xyz = xyz[::-1]  # readers, nibabel and this one, take the first voxel of an unlocated volume for the right one
    kind = nib.Nifti1Image if max(xyz.shape) < 1 << 15 else nib.Nifti2Image
    image: Any = kind(xyz, None if affine is None else np.asarray(affine, float), dtype=xyz.dtype)
    image.header.set_xyzt_units("mm")
    if affine is not None:
        image.set_sform(image.affine, code=1)
        image.set_qform(image.affine, code=1, strip_shears=True)
        if not np.allclose(image.get_qform(), image.affine, atol=1e-3):  # a shear: only the sform can say it
            image.header["qform_code"] = 0
    path = folder / f"{stem}.nii.gz"
    with atomic(path) as fresh, fresh.open("wb") as file, gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        image.to_stream(packed)
    return path.name


def _write_picture(folder: Path, stem: str, array: np.ndarray, colour: bool) -> str:
    """(y, x) or (3, y, x) as PNG, or as TIFF where PNG has no such pixels."""
    array = np.moveaxis(array, 0, -1) if colour else array
    png = array.dtype.name in PNG_TYPES and not (colour and array.dtype != np.uint8)
    path = folder / f"{stem}{'.png' if png else '.tif'}"
    with atomic(path) as fresh:
        if png:
            from PIL import Image

            Image.fromarray(np.ascontiguousarray(array)).save(fresh, "PNG")
        else:
            import tifffile

            tifffile.imwrite(fresh, array, photometric="rgb" if colour else "minisblack")
    return path.name


def _write_index(cohort: Cohort, folder: Path, rows: dict[str, Any], files: dict[str, dict[str, str]]) -> None:
    """One row a scan; a column for each label target, called `label_NAME` where that name is taken."""
    with catalog.reading(cohort.path) as db:
        values = {(scan, target): value for scan, target, value in db.execute("SELECT scan, target, value FROM labels")}
    targets = sorted({target for _, target in values})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *(f"label_{t}" if t in COLUMNS else t for t in targets)])
    for scan, row in rows.items():
        spacing = " x ".join(f"{edge:g}" for edge in reversed(row["spacing"])) if row["spacing"] else ""
        about = {**row, "time_point": (row["attributes"] or {}).get("time_point", ""), "spacing_mm": spacing}
        about |= files[scan]
        table.writerow([*(about.get(c, "") for c in COLUMNS), *(values.get((scan, t), "") for t in targets)])
    write_text(folder / INDEX, text.getvalue())
