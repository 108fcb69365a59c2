"""The first pass over a DICOM file: a whitelist of attributes, checked, and where its pixels lie."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from medssl.ingest.opening import open_file
from medssl.ingest.records import File, Ignore, Reject

DICOMDIR = "1.2.840.10008.1.3.10"
UNCOMPRESSED = {"1.2.840.10008.1.2": 8, "1.2.840.10008.1.2.1": 12}  # syntax -> bytes from pixel tag to first pixel
NOT_SCANS = ("Segmentation", "RT Dose", "RT Image", "Parametric Map", "Surface", "Presentation")
MAX_PIXELS = 400_000_000

TAGS = """
    SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID PatientID IssuerOfPatientID InstitutionName Modality
    Manufacturer BodyPartExamined Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration
    BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames ImagePositionPatient ImageOrientationPatient
    PixelSpacing ImagerPixelSpacing SliceThickness RescaleSlope RescaleIntercept RescaleType PixelPaddingValue
    PixelPaddingRangeLimit InstanceNumber AcquisitionNumber EchoTime TemporalPositionIdentifier DiffusionBValue
    TriggerTime
    """.split()

# In a series whose slices repeat positions, the first of these that tells the repetitions apart (a time point, echo or
# b-value is a scan of its own).
REPEATS = ("EchoTime", "TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime", "AcquisitionNumber")


@dataclass(slots=True)
class Header:
    """What is needed of one image. Ids are as in the file and stay in memory; numbers that make no sense are None.

    Attributes:
        position, orientation, spacing: LPS mm (PS3.3 C.7.6.2.1.1); spacing is (between rows, between columns).
        padding: PixelPaddingValue and its range limit, as the file gives them (the sign may be wrong).
        offset: of the first pixel in the file where it is uncompressed little endian, else 0.
        repeats: values of REPEATS.
    """

    sop: str
    series: str
    study: str
    patient_id: str
    issuer: str
    modality: str
    vendor: str
    body_part: str
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    detector_spacing: bool
    thickness: float | None
    slope: float
    intercept: float
    rescaled: bool
    rescale_type: str
    padding: tuple[int, int] | None
    number: int
    repeats: tuple[str, ...]
    offset: int


def sniff(head: bytes, name: str) -> bool:
    """The DICM prefix, or a bare data set that starts with group 0002 or 0008 in a plausible way."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[2:4] > b"\x70\x00":
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or struct.unpack("<I", head[4:8])[0] <= 64


def probe(source: File) -> Header:
    """Read a file's header.

    Raises:
        Ignore: no image (report, plan, DICOMDIR).
        Reject: damaged, truncated, or a kind of image that is not read.
    """
    import pydicom
    from pydicom.config import disable_value_validation

    with open_file(source) as file, disable_value_validation():
        try:
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=TAGS)
        except Exception:  # pydicom raises whatever its parser stumbles over
            raise Reject("unreadable") from None
        syntax = str(getattr(data.file_meta, "TransferSyntaxUID", "")) or _bare_syntax(data)
        media = str(getattr(data.file_meta, "MediaStorageSOPClassUID", ""))
        values = _values(data)
        kind = str(values.get("SOPClassUID", media) or "")
        if DICOMDIR in (media, kind):
            raise Ignore("dicomdir")
        name = pydicom.uid.UID(kind).name
        offset = _pixel_offset(file, syntax)
        file.seek(128)
        claims = file.read(4) == b"DICM"
    if offset is None:
        if "Image Storage" in name and "Rows" in values:
            raise Reject("truncated")
        if "Image Storage" in name or (claims and not kind):
            raise Reject("unreadable")
        raise Ignore("no_pixels" if kind else "not_a_scan")
    if any(word in name for word in NOT_SCANS):
        raise Ignore("derived_object")
    if (_number(values.get("NumberOfFrames")) or 1) > 1:
        raise Reject("multi_frame")
    header = _header(values, offset if syntax in UNCOMPRESSED else 0)
    if header.offset:
        needed = header.rows * header.columns * header.samples * header.allocated // 8
        if source.size < header.offset + needed:
            raise Reject("truncated")
    return header


def _bare_syntax(data: Any) -> str:
    return "1.2.840.10008.1.2" if data.original_encoding[0] else "1.2.840.10008.1.2.1"


def _pixel_offset(file: BinaryIO, syntax: str) -> int | None:
    """Where pixels start, 0 where they must be decoded, None where the file has none; `file` stands at their tag."""
    if syntax == "1.2.840.10008.1.2.1.99":  # deflated: the stream position means nothing
        return 0
    place = file.tell()
    tag = file.read(4)
    if tag not in (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x10"):
        return None
    return place + UNCOMPRESSED[syntax] if syntax in UNCOMPRESSED else 0


def _values(data: Any) -> dict[str, Any]:
    """What the file says of TAGS; an element that cannot be read counts as missing."""
    names = _tag_names()
    values = {}
    for tag in list(data.keys()):  # by tag and not by keyword, which takes pydicom twice as long
        if (name := names.get(int(tag))) is not None:
            try:
                values[name] = data[tag].value
            except Exception:  # pydicom raises whatever the bytes make it raise
                continue
    return values


@lru_cache(maxsize=1)
def _tag_names() -> dict[int, str]:
    from pydicom.datadict import tag_for_keyword

    return {tag: name for name in TAGS if (tag := tag_for_keyword(name)) is not None}


def _header(values: dict[str, Any], offset: int) -> Header:
    def text(tag: str) -> str:
        value = values.get(tag)
        return "" if value is None else str(value).strip().strip("\0")

    def whole(tag: str, default: int) -> int:
        value = _number(values.get(tag))
        return default if value is None else int(value)

    rows, columns, samples = whole("Rows", 0), whole("Columns", 0), whole("SamplesPerPixel", 1)
    allocated = whole("BitsAllocated", 16)
    stored = whole("BitsStored", allocated)
    if rows < 1 or columns < 1 or samples not in (1, 3, 4) or not 1 <= stored <= allocated <= 64:
        raise Reject("unsupported_pixels")
    if rows * columns > MAX_PIXELS:
        raise Reject("too_large")
    imager = _numbers(values.get("ImagerPixelSpacing"), 2)
    spacing = _numbers(values.get("PixelSpacing"), 2) or imager
    if spacing is not None and min(spacing) <= 0:
        spacing = None
    slope, intercept = _number(values.get("RescaleSlope")), _number(values.get("RescaleIntercept"))
    if slope == 0:
        raise Reject("bad_rescale")
    padding = _number(values.get("PixelPaddingValue"))
    limit = _number(values.get("PixelPaddingRangeLimit"))
    return Header(
        sop=text("SOPInstanceUID"),
        series=text("SeriesInstanceUID"),
        study=text("StudyInstanceUID"),
        patient_id=text("PatientID"),
        issuer=" ".join((text("IssuerOfPatientID") or text("InstitutionName")).casefold().split()),
        modality=text("Modality"),
        vendor=text("Manufacturer"),
        body_part=text("BodyPartExamined"),
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=text("PhotometricInterpretation").upper(),
        allocated=allocated,
        stored=stored,
        high_bit=whole("HighBit", stored - 1),
        signed=whole("PixelRepresentation", 0) == 1,
        position=_numbers(values.get("ImagePositionPatient"), 3),
        orientation=_numbers(values.get("ImageOrientationPatient"), 6),
        spacing=spacing,
        detector_spacing=spacing is not None and _numbers(values.get("PixelSpacing"), 2) is None,
        thickness=_number(values.get("SliceThickness")),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        rescaled=slope is not None or intercept is not None,
        rescale_type=text("RescaleType").upper(),
        padding=None if padding is None else (int(padding), int(padding if limit is None else limit)),
        number=whole("InstanceNumber", 0),
        repeats=tuple(text(tag) for tag in REPEATS),
        offset=offset,
    )


def _number(value: Any) -> float | None:
    """A finite number, or None: values like `-01.024000E+03` occur, and so do empty, multiple and absurd ones."""
    try:
        number = float(str(value[0] if isinstance(value, list | tuple) else value).strip())
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
