"""What a NIfTI-1.1, NIfTI-2 or Analyze 7.5 header says, checked before anything is allocated for it."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medssl.ingest.opening import open_unzipped
from medssl.ingest.records import File, Probe, Reject, Value

MAX_VOXELS = 1 << 31  # of one volume
DEFLATE_LIMIT = 1032  # bytes that one byte of gzip can stand for, at most
UNITS_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
FORMS_APART = 0.1  # of the smallest voxel edge, at any corner: more is a disagreement, less is rounding
VOXEL_EDGES_MM = (0.001, 50.0)  # what is outside was hardly made by a scanner
SINGLE, PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")
VECTOR_INTENTS = range(1004, 1008)


@dataclass(slots=True)
class Header:
    """Of one file, and which of its time points a job means.

    Attributes:
        shape: (i, j, k) or (i, j, k, t).
        affine: index (i, j, k) -> RAS+ mm.
        offset: of the first voxel, in bytes.
        padding: a file beside, on the same grid, that says where nothing was measured.
        paired: the voxels are in another file, `data`, once that is known.
        point: -1: the file is 3-D.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    paired: bool
    findings: list[str] = field(default_factory=list)
    attributes: dict[str, Value] = field(default_factory=dict)
    data: File | None = None
    padding: Probe | None = None
    point: int = -1

    @property
    def volume_bytes(self) -> int:
        return math.prod(self.shape[:3]) * self.dtype.itemsize


def is_nifti(head: bytes) -> bool:
    return head[344:348] in (*SINGLE, *PAIR) or head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")


def is_analyze(head: bytes) -> bool:
    """348 as the first number, dimensions and bits a voxel that go together: Analyze has no magic."""
    if len(head) < 348:
        return False
    for order in ("little", "big"):
        size, dims = int.from_bytes(head[:4], order), int.from_bytes(head[40:42], order)
        bits = int.from_bytes(head[72:74], order)
        if size == 348 and 1 <= dims <= 7 and bits in (1, 8, 16, 24, 32, 64, 128):
            return True
    return False


def read_header(head: bytes) -> Header:
    """From the first 540 bytes of a file, gzip undone.

    Raises:
        Reject: damaged, a number of dimensions or a kind of voxel that is no scan, or larger than can be real.
    """
    header, kind = _parse(head)
    findings: list[str] = ["left_right_unknown"] if kind == "analyze" else []
    shape = _shape(header, kind)
    dtype = _dtype(header)
    affine, attributes = _affine(header, kind, shape, findings)
    try:
        offset = int(header.get_data_offset())
        slope, inter = header.get_slope_inter()
    except Exception:  # an offset that is no number, or an intercept that is none beside a slope that is one
        raise Reject("bad_rescale" if math.isfinite(float(header["vox_offset"])) else "unreadable") from None
    slope, inter = (1.0, 0.0) if slope is None else (float(slope), float(inter or 0.0))  # no slope: not scaled
    if offset < (len(header.binaryblock) if kind == "single" else 0):
        raise Reject("unreadable")
    return Header(shape, dtype, offset, slope, inter, affine, kind != "single", findings, attributes)


def check_size(file: File, header: Header) -> None:
    """Whether `file` can hold the voxels that the header claims; nothing is allocated for those that it cannot.

    Raises:
        Reject: it cannot.
    """
    with open_unzipped(file) as stream:
        room = file.size * (DEFLATE_LIMIT if isinstance(stream, gzip.GzipFile) else 1)
    if header.offset + math.prod(header.shape) * header.dtype.itemsize > room:
        raise Reject("truncated")


def _parse(head: bytes) -> tuple[Any, str]:
    """nibabel's header, unchecked, and whether it is of a single file, of a pair, or Analyze."""
    import nibabel as nib
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    second = head[4:8] in (b"n+2\0", b"ni2\0")
    magic = head[4:8] if second else head[344:348]
    kind = "single" if magic in SINGLE else "pair" if magic in PAIR else "analyze"
    parser: Any = {
        ("single", False): nib.Nifti1Header,
        ("single", True): nib.Nifti2Header,
        ("pair", False): nib.nifti1.Nifti1PairHeader,
        ("pair", True): nib.nifti2.Nifti2PairHeader,
    }.get((kind, second), Spm2AnalyzeHeader)
    try:
        return parser(head[: 540 if second else 348], check=False), kind
    except Exception:  # nibabel raises whatever a damaged header makes of itself
        raise Reject("unreadable") from None


def _shape(header: Any, kind: str) -> tuple[int, ...]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    intent = 0 if kind == "analyze" else int(header["intent_code"])
    if len(shape) == 5 and (shape[3] == 1 or intent in VECTOR_INTENTS):
        raise Reject("vector_voxels")
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise Reject("bad_dimensions")
    if math.prod(shape[:3]) > MAX_VOXELS:
        raise Reject("too_large")
    return shape


def _dtype(header: Any) -> np.dtype:
    try:
        dtype: np.dtype = header.get_data_dtype()
    except Exception:  # a code that nibabel does not know, or knows and cannot read
        raise Reject("unsupported_pixels") from None
    if dtype.kind == "c":
        raise Reject("complex_voxels")
    if dtype.kind not in "iuf" and dtype.names not in (("R", "G", "B"), ("R", "G", "B", "A")):
        raise Reject("unsupported_pixels")
    return dtype


def _affine(header: Any, kind: str, shape: tuple[int, ...], findings: list[str]) -> tuple[np.ndarray, dict[str, Value]]:
    """sform before qform before the header's pixel sizes; in mm, with the distance between the two forms."""
    attributes: dict[str, Value] = {}
    _mend_edges(header, shape, findings)
    forms = {} if kind == "analyze" else _forms(header, findings)
    if len(forms) == 2:
        apart = _apart(forms["sform"], forms["qform"], shape)
        if apart > FORMS_APART * np.linalg.norm(forms["sform"][:3, :3], axis=0).min():
            findings.append("forms_disagree")
            attributes["forms_apart_mm"] = round(apart * _scale(header), 3)
    affine = forms.get("sform", forms.get("qform"))
    if affine is None:
        affine = header.get_best_affine() if kind == "analyze" else header.get_base_affine()
        if kind != "analyze":
            findings.append("no_orientation")
    if not _sane(affine):
        raise Reject("bad_geometry")
    scale = 1.0 if kind == "analyze" else _scale(header)
    affine = np.diag([scale, scale, scale, 1.0]) @ affine
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if edges.min() < VOXEL_EDGES_MM[0] or edges.max() > VOXEL_EDGES_MM[1]:
        findings.append("odd_spacing")
    return affine, attributes


def _mend_edges(header: Any, shape: tuple[int, ...], findings: list[str]) -> None:
    """Voxel edges as nibabel mends them: a sign is dropped; an edge of 0 becomes 1 where a single slice has none."""
    edges = np.asarray(header["pixdim"][1:4], float)
    if (edges < 0).any():
        findings.append("bad_form")
        edges = np.abs(edges)
    for axis in range(3):
        if shape[axis] == 1 and edges[axis] == 0:
            edges[axis] = 1.0
    header["pixdim"][1:4] = edges


def _forms(header: Any, findings: list[str]) -> dict[str, np.ndarray]:
    """Those of sform and qform that are declared and make sense."""
    forms: dict[str, np.ndarray] = {}
    for name, get in (("sform", header.get_sform), ("qform", header.get_qform)):
        try:
            affine, code = get(coded=True)
        except Exception:  # a quaternion that is none
            affine, code = None, 1
        if code <= 0:
            continue
        if affine is not None and _sane(affine):
            forms[name] = affine
        else:
            findings.append("bad_form")
    return forms


def _apart(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance between where the two put a corner of the volume."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())


def _scale(header: Any) -> float:
    """mm of one unit of length; where none is said it is mm, as every program takes it."""
    try:
        return UNITS_MM.get(header.get_xyzt_units()[0], 1.0)
    except KeyError:
        return 1.0


def _sane(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all():
        return False
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(edges.min() > 0 and abs(np.linalg.det(affine[:3, :3] / edges)) > 1e-4)
