"""The first pass over a DICOM file: whether it is an image that can be read, and the headers of its images."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from medssl.ingest.opening import open_file
from medssl.ingest.readers.dicom import frames, segmentation
from medssl.ingest.readers.dicom.attributes import values_of, wanted
from medssl.ingest.readers.dicom.header import KEYS, Header, header_of
from medssl.ingest.readers.dicom.kinds import check_kind, check_size, check_syntax, is_multiframe
from medssl.ingest.records import File, Ignore, Reject

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # little and big endian
FLOAT_DATA = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09")
UNKNOWN_LENGTH = 0xFFFFFFFF


def sniff(head: bytes, name: str) -> bool:
    """The DICM prefix, or a bare data set that starts with group 0002 or 0008 in a plausible way."""
    if head[128:132] == b"DICM":
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    if len(head) >= 16 and head[:2] in (b"\x00\x02", b"\x00\x08"):  # big endian, which is always explicit
        return explicit and head[2:4] <= b"\x00\x70"
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[2:4] > b"\x70\x00":
        return False
    return explicit or struct.unpack("<I", head[4:8])[0] <= 64


def probe(source: File) -> list[Header] | Any:
    """The headers of a file's images, or the `segmentation.Segmentation` that it is.

    Raises:
        Ignore: no image (report, plan, DICOMDIR).
        Reject: damaged, truncated, or a kind of image that is not read.
    """
    import pydicom
    from pydicom.config import disable_value_validation

    with open_file(source) as file, disable_value_validation():
        try:
            check_size(file, source)
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=wanted())
        except (Reject, Ignore):
            raise
        except Exception:  # pydicom raises whatever its parser stumbles over
            raise Reject("unreadable") from None
        syntax = syntax_of(data)
        values = values_of(data)
        sop_class = str(values.get("SOPClassUID", getattr(data.file_meta, "MediaStorageSOPClassUID", "")) or "")
        offset = _pixel_offset(file, syntax)
        check_kind(file, sop_class, offset is not None, "Rows" in values)
        check_syntax(syntax)
        if segmentation.is_one(sop_class):
            return segmentation.probe(source)
        header = header_of(values, offset or 0)
        if header.offset and source.size < header.offset + header.frames * header.frame_bytes:
            raise Reject("truncated")
        _check_claims(header, source)
        if header.frames > 1 or (header.position is None and is_multiframe(sop_class)):
            return frames.of_multiframe(source, header)
        if "MOSAIC" in header.keys[KEYS.index("image_type")].split("\\"):
            return frames.of_mosaic(source, header)
        return [header]


def syntax_of(data: Any) -> str:
    """The transfer syntax; of a data set that does not name it, the uncompressed one that it was found to have."""
    named = str(getattr(data.file_meta, "TransferSyntaxUID", None) or "")
    implicit, little = data.original_encoding
    return named or (IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN)


def _check_claims(header: Header, source: File) -> None:
    """Sizes that no codec reaches are refused before anything is allocated: 64 MiB and 2,000 times the file.

    Raises:
        Reject: too_large.
    """
    whole = header.frames * header.frame_bytes
    if (whole > 64 << 20 and whole > 2000 * source.size) or header.frames > max(1, 8 * source.size):
        raise Reject("too_large")


def _pixel_offset(file: BinaryIO, syntax: str) -> int | None:
    """Where pixels start, 0 where they must be decoded, None where the file has none; `file` stands at their tag."""
    if syntax == "1.2.840.10008.1.2.1.99":  # deflated: the stream position means nothing
        return 0
    place = file.tell()
    head = file.read(12)
    if head[:4] in FLOAT_DATA:
        return 0
    if head[:4] not in PIXEL_DATA:
        return None
    if syntax == IMPLICIT and len(head) >= 8 and int.from_bytes(head[4:8], "little") != UNKNOWN_LENGTH:
        return place + 8
    if syntax == EXPLICIT and head[4:6] in (b"OB", b"OW") and int.from_bytes(head[8:12], "little") != UNKNOWN_LENGTH:
        return place + 12
    return 0
