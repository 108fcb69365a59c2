"""NIfTI-1, NIfTI-2 and Analyze 7.5, gzipped or not, one file or a pair: a volume each, or one a time point if 4-D."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache
from io import BufferedIOBase

import numpy as np

from medssl.ingest.bids import is_derived_image, modality_and_suffix
from medssl.ingest.identity import Keys
from medssl.ingest.opening import open_unzipped
from medssl.ingest.readers.image import companions, finite, one_file_job
from medssl.ingest.readers.nifti_header import Header, check_size, is_analyze, is_nifti, read_header
from medssl.ingest.records import File, Ignore, Job, Plan, Probe, Reject, Scan
from medssl.ingest.reorient import spacing_of, to_ras

BLOCK = 1 << 22  # bytes that are read at once
MAX_REST = 16  # blocks behind the voxels that are unpacked to reach the check sum
VOXELS, SINGLE_FILES = (".img", ".img.gz"), (".nii", ".nii.gz")


def sniff(head: bytes, name: str) -> bool:
    """By magic; the `.img` of a pair has none and goes by its name."""
    low = name.lower()
    return is_nifti(head) or low.endswith(VOXELS) or (is_analyze(head) and not low.endswith(SINGLE_FILES))


def probe(file: File) -> Header | None:
    """The header; None for the `.img` of a pair.

    Raises:
        Ignore: an image in a BIDS folder of derivatives.
        Reject: unreadable, no scan, or larger than it can be.
    """
    if is_derived_image(file):
        raise Ignore("bids_derivative")
    try:
        with open_unzipped(file) as stream:
            head = stream.read(540)
    except (OSError, EOFError, zlib.error):
        raise Reject("unreadable") from None
    if file.name.lower().endswith(VOXELS) and not is_nifti(head):
        return None
    header = read_header(head)
    if not header.paired:
        check_size(file, header)
    return header


def plan(probes: list[Probe], keys: Keys) -> Plan:
    out = Plan()
    whole, out.rejected = join_pairs(probes)
    whole, paddings = companions(whole)
    for item in whole:
        header: Header = replace(item.header, padding=paddings.get(item.file.id))
        for point in range(header.shape[3]) if len(header.shape) == 4 else [-1]:
            part = () if point < 0 else (f"time point {point}",)
            job = one_file_job("nifti", Probe(item.file, "nifti", replace(header, point=point)), keys, *part)
            job.files += [half for half in (header.data, header.padding and header.padding.file) if half]
            if header.padding is not None:
                job.findings.append("padding_masked")
            if point >= 0:
                job.findings.append("time_points")
            out.jobs.append(job)
    return out


def join_pairs(probes: list[Probe]) -> tuple[list[Probe], list[tuple[File, str]]]:
    """Headers with their voxels, and files that lack the other half of their pair, with a code."""
    halves = {_stem(p.file): p.file for p in probes if p.header is None}
    whole, lost = [], []
    for item in probes:
        if item.header is None:
            continue
        if item.header.paired:
            item.header.data = halves.pop(_stem(item.file), None)
            try:
                if item.header.data is None:
                    raise Reject("missing_partner")
                check_size(item.header.data, item.header)
            except Reject as verdict:
                lost += [(half, verdict.code) for half in (item.file, item.header.data) if half is not None]
                continue
        whole.append(item)
    return whole, lost + [(file, "missing_partner") for file in halves.values()]


def read(job: Job) -> Scan:
    """A volume (z, y, x), or (3, z, y, x) in colour, in RAS+; what is no finite number is masked."""
    header: Header = job.payload
    if len(header.shape) == 4 and header.point < 0:  # nobody planned it: a mask with time points
        raise Reject("bad_dimensions")
    findings = list(header.findings)
    stored = _stored(header.data or job.files[0], header)
    if stored.dtype.names is not None:
        if "A" in stored.dtype.names and (stored["A"] != 255).any():
            findings.append("alpha_left_out")
        stored = np.stack([stored[channel] for channel in "RGB"])
    elif (header.slope, header.inter) != (1.0, 0.0):
        stored = stored * header.slope + header.inter  # in float64, as nibabel does
    volume, affine = to_ras(stored, header.affine)
    padding = None
    if header.padding is not None:
        padding, there = to_ras(_stored(header.padding.file, header.padding.header) != 0, header.padding.header.affine)
        if padding.shape != volume.shape[-3:] or not np.allclose(there, affine, atol=1e-3):
            raise Reject("mask_grid")
    if (numbers := finite(volume)) is not None:
        findings.append("not_finite")
        volume[~numbers] = 0  # until it is stored as the darkest value that is measured
        padding = ~numbers if padding is None else padding | ~numbers
    attributes = dict(header.attributes)
    if header.point >= 0:
        attributes["time_point"] = header.point
    modality, suffix = modality_and_suffix(job.files[0])
    if suffix:
        attributes["bids_suffix"] = suffix
    return Scan(
        volume,
        "volume" if volume.ndim == 3 else "colour_volume",
        spacing_of(affine),
        affine,
        modality=modality,
        padding=padding,
        findings=findings,
        attributes=attributes,
    )


def _stored(file: File, header: Header) -> np.ndarray:
    """One volume (k, j, i) as it is in the file, in this machine's byte order.

    Raises:
        Reject: the file ends before its voxels do, or is damaged.
    """
    check_size(file, header)
    try:
        raw = np.empty(header.volume_bytes, np.uint8)  # pages come into being as they are filled
        stream = _stream(file)
        stream.seek(header.offset + max(0, header.point) * header.volume_bytes)
        view, done = raw.data, 0
        while done < len(raw):
            count = stream.readinto(view[done : done + BLOCK])
            if not count:
                raise EOFError
            done += count
        if header.point in (-1, header.shape[-1] - 1):  # on to the end, where gzip keeps its check sum
            for _ in range(MAX_REST):
                if not stream.read(BLOCK):
                    break
    except EOFError:
        _stream.cache_clear()
        raise Reject("truncated") from None
    except (OSError, zlib.error):  # gzip's check sums, or the disk
        _stream.cache_clear()
        raise Reject("unreadable") from None
    values = raw.view(header.dtype).reshape(header.shape[2::-1])
    values = values.astype(header.dtype.newbyteorder("="), copy=False)
    return values.astype(np.float64) if values.dtype == np.longdouble else values


@lru_cache(maxsize=1)  # the time points of a 4-D file are read one after the other, and gzip only goes forward
def _stream(file: File) -> BufferedIOBase:
    return open_unzipped(file)


def _stem(file: File) -> tuple[str, str]:
    name = file.name.lower().removesuffix(".gz")
    return file.root, name.removesuffix(".hdr").removesuffix(".img")
