"""Which DICOM objects are images that can be read here: by SOP class, transfer syntax and size."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import BinaryIO

from medssl.ingest.opening import GZIP
from medssl.ingest.records import File, Ignore, Reject

DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED = 2 << 30  # bytes of a deflated data set

# What follows 1.2.840.10008.1.2. in syntaxes that no library here decodes -> the finding that names them
_UNDECODABLE = {
    "4.100": "codec_video", "4.101": "codec_video", "4.102": "codec_video", "4.103": "codec_video",
    "4.104": "codec_video", "4.105": "codec_video", "4.106": "codec_video", "4.107": "codec_video",
    "4.108": "codec_video", "7": "codec_video",
    "4.92": "codec_jpeg2000_part2", "4.93": "codec_jpeg2000_part2",
    "4.94": "codec_elsewhere", "4.95": "codec_elsewhere", "4.204": "codec_elsewhere", "4.205": "codec_elsewhere",
    "4.110": "codec_jpeg_xl", "4.111": "codec_jpeg_xl", "4.112": "codec_jpeg_xl",
    "1.98": "codec_encapsulated", "8.1": "codec_deflated_frames",
}  # fmt: skip


def check_kind(file: BinaryIO, sop_class: str, has_pixels: bool, has_rows: bool) -> None:
    """Whether an object is an image, by its SOP class; only one without pixels costs a look at the file's start.

    Raises:
        Ignore: it is not meant to be one; the code says what it is.
        Reject: it should have pixels and has none.
    """
    name = class_name(sop_class)
    if sop_class == "1.2.840.10008.1.3.10":
        raise Ignore("dicomdir")
    code = next((code for word, code in _NO_IMAGES if word in name), "")
    if code:
        raise Ignore(code)
    if has_pixels:
        return
    if "Image Storage" in name and has_rows:
        raise Reject("truncated")
    file.seek(128)
    if "Image Storage" in name or (file.read(4) == b"DICM" and not sop_class):
        raise Reject("unreadable")
    raise Ignore("no_pixels" if sop_class else "not_a_scan")


_NO_IMAGES = (
    ("Media Storage Directory", "dicomdir"),
    ("SR Storage", "structured_report"), (" SR ", "structured_report"), ("Key Object", "structured_report"),
    ("Structured Report", "structured_report"), ("Presentation State", "presentation_state"),
    ("RT Dose", "radiotherapy_object"), ("RT Plan", "radiotherapy_object"), ("RT Ion", "radiotherapy_object"),
    ("RT Structure", "radiotherapy_object"), ("RT Beams", "radiotherapy_object"), ("RT Brachy", "radiotherapy_object"),
    ("RT Treatment", "radiotherapy_object"), ("RT Radiation", "radiotherapy_object"), ("RT Image", "derived_object"),
    ("Parametric Map", "derived_object"), ("Surface", "derived_object"),
    ("Waveform", "no_pixels"), ("Encapsulated", "no_pixels"), ("Raw Data", "no_pixels"),
)  # fmt: skip


def is_multiframe(sop_class: str) -> bool:
    """Whether objects of this class say in functional groups where a frame lies, even where there is only one."""
    return any(word in class_name(sop_class) for word in ("Enhanced", "Tomosynthesis", "3D", "Volumetric"))


def check_syntax(uid: str) -> None:
    """Raises Reject, with a code that names the codec, where nothing here decodes it; also if it is unknown."""
    tail = uid.removeprefix("1.2.840.10008.1.2.")
    while tail:
        if tail in _UNDECODABLE:
            raise Reject(_UNDECODABLE[tail])
        tail = tail.rpartition(".")[0]


def check_size(file: BinaryIO, source: File) -> None:
    """Inflate a deflated data set piece by piece, since pydicom does so at once: a bomb is found before it goes off.

    Raises:
        Reject: too_large.
        Ignore: archive, for a gzipped file.
    """
    head = file.read(1024)
    file.seek(0)
    if head.startswith(GZIP):
        raise Ignore("archive")
    if DEFLATED.encode() not in head:
        return
    start = 144 + int.from_bytes(head[140:144], "little")
    file.seek(start)
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    packed = file.read(1 << 16)
    while packed and not inflater.eof:
        total += len(inflater.decompress(packed, 1 << 24))
        if total > MAX_INFLATED:
            raise Reject("too_large")
        packed = inflater.unconsumed_tail or file.read(1 << 16)
    file.seek(0)


@lru_cache(maxsize=256)
def class_name(sop_class: str) -> str:
    from pydicom.uid import UID

    return UID(sop_class).name
