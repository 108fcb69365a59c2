"""The second pass over a series: stored values -> intensities (HU for CT), padding masked, in RAS+ order."""

from __future__ import annotations

import numpy as np

from medssl.ingest import identity
from medssl.ingest.opening import open_file
from medssl.ingest.readers.dicom.geometry import affine_ras, is_tilted
from medssl.ingest.readers.dicom.header import Header
from medssl.ingest.records import File, Job, Reject, Scan
from medssl.ingest.reorient import spacing_of, to_ras


def read(job: Job) -> Scan:
    """A volume (z, y, x), an image (y, x) or a colour image (3, y, x).

    Raises:
        Reject: a file that cannot be decoded or is not what its header said.
    """
    kind, headers = job.payload
    first: Header = headers[0]
    hounsfield = is_hounsfield(first)
    volume: np.ndarray | None = None
    padding: np.ndarray | None = None
    for k, (file, header) in enumerate(zip(job.files, headers, strict=True)):
        values, hidden = intensities(stored_values(file, header), header, hounsfield)
        if volume is None:
            volume = np.empty((len(headers), *values.shape), values.dtype)
        elif values.shape != volume.shape[1:]:
            raise Reject("mixed_series")
        dtype = np.result_type(volume.dtype, values.dtype)
        if dtype != volume.dtype:
            volume = volume.astype(dtype)
        volume[k] = values
        if hidden is not None and hidden.any():
            if padding is None:
                padding = np.zeros(volume.shape, bool)
            padding[k] = hidden
    assert volume is not None
    findings = []
    if padding is not None:
        findings.append("padding_masked")
    if first.modality == "CT" and not hounsfield:
        findings.append("no_rescale")
    if first.detector_spacing:
        findings.append("detector_spacing")
    scan = Scan(
        array=volume,
        kind="volume",
        unit="HU" if hounsfield else "a.u.",
        modality=identity.modality(first.modality),
        vendor=identity.vendor(first.vendor),
        body_part=identity.body_part(first.body_part),
        padding=padding,
        findings=findings,
    )
    located = first.position is not None and first.orientation is not None and first.spacing is not None
    affine = affine_ras(headers) if located else None
    if kind == "volume":
        assert affine is not None
        if is_tilted(affine):
            findings.append("gantry_tilt")
        scan.array, scan.affine = to_ras(volume, affine)
        scan.padding = None if padding is None else to_ras(padding, affine)[0]
        scan.spacing = spacing_of(scan.affine)
        return scan
    scan.array, scan.padding = volume[0], None if padding is None else padding[0]
    scan.kind = "image" if scan.array.ndim == 2 else "colour"
    scan.spacing, scan.affine = first.spacing, affine
    return scan


def is_hounsfield(header: Header) -> bool:
    return header.modality == "CT" and header.rescaled and header.rescale_type in ("", "HU")


def stored_values(file: File, header: Header) -> np.ndarray:
    """(rows, columns) or (rows, columns, samples), as stored; straight from the file where it is not compressed."""
    shape = (header.rows, header.columns) + ((header.samples,) if header.samples > 1 else ())
    if header.offset and header.samples == 1 and header.allocated in (8, 16, 32):
        dtype = np.dtype(f"<{'i' if header.signed else 'u'}{header.allocated // 8}")
        values = np.empty(shape, dtype)
        with open_file(file) as stream:
            stream.seek(header.offset)
            if stream.readinto(values.data.cast("B")) != values.nbytes:  # type: ignore[attr-defined]
                raise Reject("truncated")
        return values
    from pydicom.config import disable_value_validation
    from pydicom.pixels import pixel_array

    try:
        with open_file(file) as stream, disable_value_validation():
            values = pixel_array(stream)
    except Reject:
        raise
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).lower()
        missing = "unable to decompress" in text or "not supported" in text or "plugins" in text
        raise Reject("unknown_codec" if missing and "unable to decode" not in text else "unreadable") from None
    except Exception:  # whatever a codec stumbles over in a damaged file
        raise Reject("unreadable") from None
    if values.shape != shape:
        raise Reject("unsupported_pixels")
    return values


def intensities(stored: np.ndarray, header: Header, hounsfield: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Intensities and, where the header names a padding value, what is padding.

    Whole numbers stay whole. MONOCHROME1 is inverted, except for HU, which mean the same however they are shown.
    """
    if header.samples > 1:
        return _colour(stored, header), None
    hidden = padding_mask(stored, header)
    values = _used_bits(stored, header, hidden)
    if header.photometric == "MONOCHROME1" and not hounsfield:
        top = 2**header.stored - 1
        values = (-1 if header.signed else top) - values.astype(np.int64)
        values = values.astype(stored.dtype)
    if header.slope == 1 and header.intercept == 0:
        return values, hidden
    if header.slope.is_integer() and header.intercept.is_integer():
        low = float(values.min()) * header.slope + header.intercept
        high = float(values.max()) * header.slope + header.intercept
        low, high = min(low, high), max(low, high)
        if low >= -(2**15) and high < 2**15:
            whole = values.astype(np.int32 if header.slope != 1 or header.stored > 15 else np.int16)
            whole = (
                whole * int(header.slope) + int(header.intercept)
                if header.slope != 1
                else whole + int(header.intercept)
            )
            return whole.astype(np.int16, copy=False), hidden
        if low >= -(2**31) and high < 2**31:
            return (values.astype(np.int64) * int(header.slope) + int(header.intercept)).astype(np.int32), hidden
    rescaled = values.astype(np.float64) * header.slope + header.intercept
    if not np.isfinite(rescaled).all() or np.abs(rescaled).max() > np.finfo(np.float32).max:
        raise Reject("bad_rescale")
    return rescaled.astype(np.float32), hidden


def padding_mask(stored: np.ndarray, header: Header) -> np.ndarray | None:
    """True at PixelPaddingValue, or from it to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2).

    Some files give a negative value as an unsigned number (63536 for -2000): only the bits count.
    """
    if header.padding is None or stored.dtype.kind not in "iu":
        return None
    bits = 8 * stored.dtype.itemsize
    low, high = sorted(_as_stored(value, bits, stored.dtype.kind == "i") for value in header.padding)
    return (stored >= low) & (stored <= high) if low != high else stored == low


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _used_bits(stored: np.ndarray, header: Header, hidden: np.ndarray | None) -> np.ndarray:
    """Without what old files keep in the unused high bits (overlays); a padding value may lie there and is masked."""
    if header.stored >= header.allocated or stored.dtype.kind not in "iu":
        return stored
    if header.signed:
        low, high = -(2 ** (header.stored - 1)), 2 ** (header.stored - 1) - 1
    else:
        low, high = 0, 2**header.stored - 1
    outside = (stored < low) | (stored > high)
    if hidden is not None:
        outside &= ~hidden
    if not outside.any():
        return stored
    shift = header.allocated - 1 - header.high_bit
    drop = header.allocated - header.stored
    if shift < 0 or stored.dtype.itemsize * 8 != header.allocated:
        raise Reject("unsupported_pixels")
    return (stored << shift) >> drop  # arithmetic for signed types: the sign is extended


def _colour(stored: np.ndarray, header: Header) -> np.ndarray:
    """(rows, columns, 3) -> (3, rows, columns), or (rows, columns) where all channels agree."""
    if header.photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise Reject("unsupported_pixels")
    if stored.shape[-1] == 3 and (stored[..., :1] == stored).all():
        return np.ascontiguousarray(stored[..., 0])
    return np.ascontiguousarray(np.moveaxis(stored[..., :3], -1, 0))
