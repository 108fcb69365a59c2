"""Stored values -> intensities: used bits, padding, inversion, rescale or LUT (PS3.3 C.7.6.3, C.7.5, C.11.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from medssl.ingest.readers.dicom.header import Header
from medssl.ingest.records import Reject

RESCALE_TYPES = frozenset(  # defined terms of PS3.3 C.11.1.1.2
    "OD HU US MGML Z_EFF ED EDW HU_MOD PCT BQML CNTS SUV NONE".split()
)
COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"})


class Table(NamedTuple):
    """`first` is the stored value of the first entry; smaller values get it too, and too large ones the last."""

    entries: np.ndarray
    first: int
    bits: int

    def look_up(self, stored: np.ndarray) -> np.ndarray:
        return self.entries[np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def is_hounsfield(header: Header) -> bool:
    return header.modality == "CT" and header.rescaled and header.rescale_type in ("", "HU") and not header.table


def is_measured(header: Header) -> bool:
    """Whether the values are a quantity, which means the same however it is shown: HU, uptake, optical density, ..."""
    named = header.rescale_type in RESCALE_TYPES - {"US", "NONE"}
    return is_hounsfield(header) or header.modality in ("PT", "NM") or named


def intensities(stored: np.ndarray, header: Header, table: Table | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Intensities and, where the header names a padding value, what is padding.

    Whole numbers stay whole. What is shown inverted is inverted, unless it is a measured quantity.

    Args:
        stored: (rows, columns); may be changed.
        table: a Modality LUT, which stands for the rescale.
    """
    low, high = stored.min(), stored.max()
    hidden = _padding(stored, header, low, high)
    values, low, high = _used_bits(stored, header, hidden, low, high)
    inverted = header.inverted and not is_measured(header)
    if table is not None:
        found = table.look_up(values)
        return np.array(2**table.bits - 1).astype(found.dtype) - found if inverted else found, hidden
    if inverted and values.dtype.kind in "iu":
        # in an unsigned type of the same width the difference may wrap around and still come out right
        top = -1 if header.signed else 2**header.stored - 1
        values = (np.array(top).astype(values.dtype) - values).astype(values.dtype, copy=False)
        low, high = top - int(high), top - int(low)  # type: ignore[call-overload]
    elif inverted:
        values, low, high = -values, -high, -low  # type: ignore[operator]
    return _rescaled(values, header.slope, header.intercept, low, high), hidden


def _rescaled(values: np.ndarray, slope: float, intercept: float, low: object, high: object) -> np.ndarray:
    if slope == 1 and intercept == 0:
        return values
    ends = sorted(float(v) * slope + intercept for v in (low, high))  # type: ignore[arg-type]
    if slope.is_integer() and intercept.is_integer() and values.dtype.kind in "iu":
        if slope == 1 and ends[0] >= -(2**15) and ends[1] < 2**15 and values.itemsize == 2:
            # modulo 2^16, so that no wider type is needed on the way
            return (values.view(np.uint16) + np.uint16(int(intercept) % 2**16)).view(np.int16)
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return (values.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)
    if not all(np.isfinite(ends)) or max(map(abs, ends)) > np.finfo(np.float32).max:
        raise Reject("bad_rescale")
    return (values.astype(np.float64) * slope + intercept).astype(np.float32)


def _padding(stored: np.ndarray, header: Header, least: object, most: object) -> np.ndarray | None:
    """True at PixelPaddingValue, or from it to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2); None where there is none.

    Some files give a negative value as an unsigned number (63536 for -2000): only the bits count.
    """
    if header.padding is None or stored.dtype.kind not in "iu":
        return None
    bits, signed = 8 * stored.dtype.itemsize, stored.dtype.kind == "i"
    ends = sorted(header.padding)
    low, high = sorted(_as_stored(value, bits, signed) for value in ends)
    if not signed and ends[0] < 0 <= ends[1] < 1 << (bits - 1):  # a range through zero goes round the end
        return (stored <= low) | (stored >= high)
    if high < least or low > most:  # type: ignore[operator]
        return None
    return (stored >= low) & (stored <= high) if low != high else stored == low


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _used_bits(
    stored: np.ndarray, header: Header, hidden: np.ndarray | None, least: object, most: object
) -> tuple[np.ndarray, object, object]:
    """The value, and its range, without what old files keep in the unused bits around it (overlays).

    A padding value may lie in the unused high bits; it is masked.
    """
    if header.stored >= header.allocated or stored.dtype.kind not in "iu":
        return stored, least, most
    if header.signed:
        low, high = -(2 ** (header.stored - 1)), 2 ** (header.stored - 1) - 1
    else:
        low, high = 0, 2**header.stored - 1
    if header.high_bit == header.stored - 1:
        if low <= least and most <= high:
            return stored, least, most
        outside = (stored < low) | (stored > high)
        if hidden is not None:
            outside &= ~hidden
        if not outside.any():
            return stored, least, most
    if stored.dtype.itemsize * 8 != header.allocated:
        raise Reject("unsupported_pixels")
    shift = header.allocated - 1 - header.high_bit
    used = (stored << shift) >> (header.allocated - header.stored)  # arithmetic for signed types: the sign is extended
    return used, used.min(), used.max()


def colour(stored: np.ndarray, header: Header) -> np.ndarray:
    """(rows, columns, 3 or 4) RGB, as decoded -> (rows, columns, 3)."""
    if header.photometric not in COLOURS:
        raise Reject("unsupported_pixels")
    return stored[..., :3]


def modality_table(data: Any) -> Table:
    """The data set's Modality LUT (PS3.3 C.11.1)."""
    item = data.ModalityLUTSequence[0]
    entries, first, bits = (int(v) for v in item.LUTDescriptor)
    return Table(_entries(item.LUTData, entries or 2**16, not data.original_encoding[1]), first, bits)


def palette(indices: np.ndarray, data: Any) -> np.ndarray:
    """(rows, columns) -> (rows, columns, 3) uint8 by the data set's lookup tables (PS3.3 C.7.6.3.1.5 and .6).

    Not by pydicom's `apply_color_lut`, which takes tables of big endian files for little endian ones and lets indices
    above 255 wrap around in tables of 8 bits; segmented tables are expanded by it.
    """
    entries, first, bits = (int(v) for v in data.RedPaletteColorLookupTableDescriptor)
    tables = [data.get(f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")]
    if None in tables:
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(indices, data)[..., :3]
    else:
        big = not data.original_encoding[1]
        found = [Table(_entries(table, entries or 2**16, big), first, bits) for table in tables]
        colours = np.stack([table.look_up(indices) for table in found], axis=-1)
    if colours.dtype == np.uint16:  # colours of 8 bits in words, in their high byte or, in some files, in the low one
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    return colours


def _entries(data: Any, count: int, big_endian: bool) -> np.ndarray:
    """Of a lookup table: bytes of words or, packed, of bytes; or numbers."""
    if not isinstance(data, bytes):
        return np.array(data, np.uint16)[:count]
    words = np.frombuffer(data, ">u2" if big_endian else "<u2").astype("<u2")
    return (words if len(words) >= count else words.view(np.uint8))[:count]
