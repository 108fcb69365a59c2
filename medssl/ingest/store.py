"""From a Scan to files and a catalog row: dtype, percentiles, content hash, arrays on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medssl.cohort.arrays import Part, content_hash, remove_array, write_array
from medssl.errors import MedsslError
from medssl.ingest.records import ATTRIBUTES, Job, Reject, Scan

POSSIBLE_MM = (1e-5, 1e4)  # a pixel, from 10 nm up to what no scanner's field of view reaches
PERCENTILES = (0.5, 1, 5, 50, 95, 99, 99.5)
MAX_SAMPLE = 1_000_000  # voxels from which percentiles are taken: an even stride through larger scans


def store(folder: Path, job: Job, scan: Scan) -> dict[str, Any]:
    """Write the arrays of a scan and return its catalog row; the row is committed elsewhere, after the arrays exist.

    Raises:
        Reject: the scan has no voxel, nothing but padding, or as a volume a spacing that makes no sense.
        MedsslError: the disk is full, or cannot be written.
    """
    array, padding = scan.array, scan.padding
    if array.size == 0:
        raise Reject("unsupported_pixels")
    _check_spacing(scan)
    if padding is not None and not padding.any():
        padding = None
    sample = _sample(array, padding)
    if sample.size == 0:
        raise Reject("only_padding")
    if padding is not None:  # padded voxels are nobody's intensity: they take the darkest measured value
        array = array.copy() if not array.flags.writeable else array
        array[padding] = array[~padding].min()
    array = smallest_dtype(array)
    values = np.percentile(sample, PERCENTILES)
    row = {
        "scan": job.scan,
        "patient": job.patient,
        "grp": None,
        "exam": job.exam,
        "series": job.series,
        "modality": scan.modality,
        "vendor": scan.vendor,
        "body_part": scan.body_part,
        "kind": scan.kind,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "spacing": None if scan.spacing is None else [round(float(s), 6) for s in scan.spacing],
        "affine": None if scan.affine is None else np.round(scan.affine, 6).tolist(),
        "unit": scan.unit,
        "percentiles": {f"{p:g}": _rounded(float(v)) for p, v in zip(PERCENTILES, values, strict=True)},
        "content_hash": "",
        "source": job.source,
        "patient_from": job.patient_from,
        "attributes": {name: value for name, value in scan.attributes.items() if name in ATTRIBUTES},
    }
    with ThreadPoolExecutor(1) as beside:  # hashing and writing each leave the interpreter to the other
        digest = beside.submit(content_hash, array)
        write(folder, job.scan, array)
        row["content_hash"] = digest.result()
    if padding is None:
        remove_array(folder, job.scan, "padding")
    else:
        write(folder, job.scan, padding, "padding")
    return row


def _rounded(value: float) -> float:
    """To four digits behind the point, or six that count: maps of ADC in mm2/s have values of .001."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.6g}")


def write(folder: Path, scan: str, array: np.ndarray, part: Part = "") -> None:
    """Write an array of the cohort.

    Raises:
        MedsslError: the disk is full, or cannot be written.
    """
    try:
        write_array(folder, scan, array, part)
    except OSError as error:
        fix = "Make room, then run the same command again: it goes on where it stopped."
        raise MedsslError(f"the cohort cannot be written ({error.strerror})", folder.name, fix) from None


def _check_spacing(scan: Scan) -> None:
    """A picture can do without a spacing that makes no sense; in a volume everything hangs on it."""
    if scan.spacing is None or all(POSSIBLE_MM[0] <= side <= POSSIBLE_MM[1] for side in scan.spacing):
        return
    if "volume" in scan.kind:
        raise Reject("bad_geometry")
    scan.spacing = scan.affine = None
    scan.findings.append("no_spacing")


def smallest_dtype(array: np.ndarray) -> np.ndarray:
    """The same values in the smallest type that holds them all: 8 or 16-bit integers where they are whole.

    Whole numbers that came in 16 bits stay there: an 8-bit image is shown from 0 to 255, and that is not theirs.
    Values that are not whole are kept as float32, whose rounding (1 in 10^7) is below any scanner's.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype in (np.uint8, np.int8, np.uint16, np.int16):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and not (abs(low) < 2**31 and abs(high) < 2**31 and _is_whole(array)):
        return array.astype(np.float32, copy=False)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32):
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return array.astype(dtype)
    return array.astype(np.float32)


def _is_whole(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    if not np.array_equal(flat[:1000], np.rint(flat[:1000])):  # most arrays of fractions say so at once
        return False
    return bool(np.array_equal(flat, np.rint(flat)))


def _sample(array: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    flat = array.reshape(-1)
    step = max(1, flat.size // MAX_SAMPLE)
    step += step > 1 and step % 2 == 0  # an odd stride walks through all columns
    sample = flat[::step]
    if padding is not None:
        hidden = np.broadcast_to(padding, array.shape).reshape(-1)[::step]
        sample = sample[~hidden]
        if sample.size == 0:
            sample = array[~np.broadcast_to(padding, array.shape)]
    return sample
