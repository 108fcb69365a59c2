"""NIfTI-1 and NIfTI-2, gzipped or not: a volume each, or one a time point of a 4-D file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from medssl.ingest.identity import Keys
from medssl.ingest.opening import open_unzipped
from medssl.ingest.readers.image import one_file_job
from medssl.ingest.records import File, Job, Plan, Probe, Reject, Scan
from medssl.ingest.reorient import spacing_of, to_ras

MAX_VOXELS = 4_000_000_000
UNITS_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


@dataclass(slots=True)
class Header:
    """Of one file, and which of its time points a job means (-1: it is 3-D)."""

    shape: tuple[int, ...]
    point: int = -1


def sniff(head: bytes, name: str) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:12] == b"n+2\0\r\n\x1a\n"


def probe(file: File) -> Header:
    """Shape of the file.

    Raises:
        Reject: unreadable, not 3-D or 4-D, or larger than can be real.
    """
    image = _open(file)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise Reject("bad_dimensions")
    if int(np.prod(shape)) > MAX_VOXELS:
        raise Reject("too_large")
    return Header(shape)


def plan(probes: list[Probe], keys: Keys) -> Plan:
    jobs = []
    for item in probes:
        shape = item.header.shape
        points = range(shape[3]) if len(shape) == 4 else [-1]
        for point in points:
            part = () if point < 0 else (f"time point {point}",)
            job = one_file_job("nifti", Probe(item.file, "nifti", Header(shape, point)), keys, *part)
            if point >= 0:
                job.findings.append("time_points")
            jobs.append(job)
    return Plan(jobs)


def read(job: Job) -> Scan:
    """A volume (z, y, x) in RAS+, without what is not finite."""
    header: Header = job.payload
    file = job.files[0]
    image = _open(file)
    affine, findings = _affine(image)
    try:
        values = _values(file)
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise Reject("truncated" if isinstance(error, OSError | EOFError) else "unreadable") from None
    if values.dtype.names is not None or values.dtype.kind not in "iufb":
        raise Reject("unsupported_pixels")
    values = values.reshape(header.shape)
    if header.point >= 0:
        values = values[..., header.point]
    volume, affine = to_ras(values.transpose(2, 1, 0), affine)
    padding = None
    if volume.dtype.kind == "f":
        finite = np.isfinite(volume)
        if not finite.all():
            findings.append("not_finite")
            padding = ~finite
            volume[padding] = volume[finite].min() if finite.any() else 0
    return Scan(volume, "volume", spacing_of(affine), affine, modality="unknown", padding=padding, findings=findings)


def _open(file: File) -> Any:
    import nibabel as nib

    try:
        with open_unzipped(file) as stream:
            second = stream.read(12)[4:8] == b"n+2\0"
        kind = nib.Nifti2Image if second else nib.Nifti1Image
        return kind.from_stream(open_unzipped(file))
    except Reject:
        raise
    except Exception:  # nibabel raises whatever a damaged header makes of itself
        raise Reject("unreadable") from None


@lru_cache(maxsize=1)  # the time points of a 4-D file are read one after the other
def _values(file: File) -> np.ndarray:
    """Scaled values as nibabel gives them: integers where there is no scaling."""
    image = _open(file)
    values = np.asanyarray(image.dataobj)
    return values.astype(np.float64) if values.dtype == np.longdouble else values


def _affine(image: Any) -> tuple[np.ndarray, list[str]]:
    """sform before qform before the header's pixel sizes; in mm."""
    header = image.header
    findings = []
    sform, sform_code = header.get_sform(coded=True)
    try:
        qform, qform_code = header.get_qform(coded=True)
    except ValueError:  # a quaternion that is none
        qform, qform_code = None, 0
    if sform is not None and sform_code > 0 and _sane(sform):
        affine = sform
        if qform is not None and qform_code > 0 and not np.allclose(sform, qform, atol=0.05):
            findings.append("forms_disagree")
    elif qform is not None and qform_code > 0 and _sane(qform):
        affine = qform
    else:
        affine = header.get_base_affine()
        findings.append("no_orientation")
    if not _sane(affine):
        raise Reject("bad_geometry")
    scale = UNITS_MM.get(header.get_xyzt_units()[0], 1.0)
    return np.diag([scale, scale, scale, 1.0]) @ affine, findings


def _sane(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12)
