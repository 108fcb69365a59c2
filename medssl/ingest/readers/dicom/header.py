"""The first pass over a DICOM file: a whitelist of attributes, checked, and where its pixels lie.

A file gives one `Header` an image: one for a single-frame object, one a frame for others (`frames`), one a tile for a
Siemens mosaic. Whatever comes later sees images, and not files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from sys import intern
from typing import Any, BinaryIO

from medssl.ingest.opening import open_file
from medssl.ingest.privacy.about import NOBODY, About, about
from medssl.ingest.readers.dicom.attributes import number, numbers, seconds, short, text, values_of, wanted
from medssl.ingest.readers.dicom.kinds import check_kind, check_size, check_syntax, is_multiframe
from medssl.ingest.records import File, Ignore, Reject

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # little and big endian
FLOAT_DATA = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09")
UNKNOWN_LENGTH = 0xFFFFFFFF

# What can tell images of one series apart that lie at the same place, the surest first. `thickness` and `kernel` part
# stacks that lie side by side as well.
KEYS = (
    "echo", "b_value", "temporal", "stack", "component", "kernel", "dimensions", "gradient", "trigger", "image_type",
    "acquisition", "thickness",
)  # fmt: skip


@dataclass(slots=True)
class Header:
    """What is needed of one image. Ids are as in the file and stay in memory; numbers that make no sense are None.

    Attributes:
        position, orientation, spacing: LPS mm (PS3.3 C.7.6.2.1.1); spacing is (between rows, between columns).
        spacing_from: patient, detector, or magnified (the detector's, divided by the estimated magnification).
        padding: PixelPaddingValue and its range limit, as the file gives them (the sign may be wrong).
        inverted: the highest value is shown black.
        table: a Modality LUT stands for the rescale.
        keys: values of KEYS, as text. time: seconds since midnight of the acquisition, or None.
        offset: of the image's first pixel in the file where it can be read there (uncompressed little endian), else 0.
        frame, frames: which of the file's frames, of how many; tiles: of a mosaic, a side, else 0 (`frame` is a tile).
        own: the frames have functional groups, so that their geometry is meant (and a film's is not).
        container: frames of different containers never belong to one volume; empty for single-frame files.
        about: the person and the day.
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
    spacing_from: str
    magnification: float
    thickness: float | None
    slope: float
    intercept: float
    rescaled: bool
    rescale_type: str
    table: bool
    padding: tuple[int, int] | None
    inverted: bool
    number: int
    keys: tuple[str, ...]
    time: float | None
    offset: int
    frame: int = 0
    frames: int = 1
    tiles: int = 0
    own: bool = False
    container: str = ""
    about: About = NOBODY

    @property
    def is_located(self) -> bool:
        return self.position is not None and self.orientation is not None and self.spacing is not None

    @property
    def frame_bytes(self) -> int:
        """Uncompressed; two pixels of a 4:2:2 image share their colour (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.offset and self.photometric == "YBR_FULL_422" else self.samples
        return (self.rows * self.columns * samples * self.allocated + 7) // 8


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

    from medssl.ingest.readers.dicom import frames, segmentation

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
        header = _header(values, offset or 0)
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


def _header(values: dict[str, Any], offset: int) -> Header:
    def whole(tag: str, default: int) -> int:
        value = number(values.get(tag))
        return default if value is None else int(value)

    def word(tag: str) -> str:
        return intern(text(values.get(tag)))

    rows, columns, samples = whole("Rows", 0), whole("Columns", 0), whole("SamplesPerPixel", 1)
    allocated, frames = whole("BitsAllocated", 16), whole("NumberOfFrames", 1)
    stored = whole("BitsStored", allocated)
    if rows < 1 or columns < 1 or samples not in (1, 3, 4) or frames < 0:
        raise Reject("unsupported_pixels")
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= allocated:
        raise Reject("unsupported_pixels")
    high_bit = whole("HighBit", stored - 1)
    if not stored - 1 <= high_bit < allocated:
        raise Reject("unsupported_pixels")
    if rows * columns > 400_000_000:
        raise Reject("too_large")
    spacing, spacing_from, magnification = _spacing(values)
    slope, intercept = number(values.get("RescaleSlope")), number(values.get("RescaleIntercept"))
    if slope == 0:
        raise Reject("bad_rescale")
    padding = number(values.get("PixelPaddingValue"))
    limit = number(values.get("PixelPaddingRangeLimit"))
    photometric = word("PhotometricInterpretation").upper()
    shape = word("PresentationLUTShape").upper()
    return Header(
        sop=text(values.get("SOPInstanceUID")),
        series=word("SeriesInstanceUID"),
        study=word("StudyInstanceUID"),
        patient_id=word("PatientID"),
        issuer=intern(" ".join((word("IssuerOfPatientID") or word("InstitutionName")).casefold().split())),
        modality=word("Modality").upper(),
        vendor=word("Manufacturer"),
        body_part=word("BodyPartExamined"),
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=intern(photometric),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=whole("PixelRepresentation", 0) == 1,
        position=numbers(values.get("ImagePositionPatient"), 3),
        orientation=numbers(values.get("ImageOrientationPatient"), 6),
        spacing=spacing,
        spacing_from=spacing_from,
        magnification=magnification,
        thickness=number(values.get("SliceThickness")) or None,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        rescaled=slope is not None or intercept is not None,
        rescale_type=word("RescaleType").upper(),
        table=bool(values.get("ModalityLUTSequence")),
        padding=None if padding is None else (int(padding), int(padding if limit is None else limit)),
        # PS3.3 C.11.6.1: INVERSE and MONOCHROME1 say the same, so both together invert once
        inverted=photometric == "MONOCHROME1" or (photometric == "MONOCHROME2" and shape == "INVERSE"),
        number=whole("InstanceNumber", 0),
        keys=_keys(values),
        time=seconds(text(values.get("AcquisitionTime"))),
        offset=offset,
        frames=max(1, frames),
        about=about(values),
    )


def _keys(values: dict[str, Any]) -> tuple[str, ...]:
    kind = values.get("ImageType")
    kinds = [text(v).upper() for v in ([kind] if isinstance(kind, str) else kind or ())]
    b_value = number(values.get("DiffusionBValue"))
    if b_value is None:
        b_value = number(values.get("SiemensBValue"))
    gradient = numbers(values.get("DiffusionGradientOrientation"), 3)
    found = {
        "echo": short(number(values.get("EchoTime"))),
        "b_value": short(b_value),
        "temporal": short(number(values.get("TemporalPositionIdentifier"))),
        "stack": text(values.get("StackID")),
        "component": component(kinds),
        "kernel": text(values.get("ConvolutionKernel")),
        "gradient": "" if gradient is None else " ".join(f"{v:.4f}" for v in gradient),
        "trigger": short(number(values.get("TriggerTime"))),
        "image_type": "\\".join(kinds),
        "acquisition": short(number(values.get("AcquisitionNumber"))),
        "thickness": short(number(values.get("SliceThickness"))),
    }
    return tuple(intern(found.get(name, "")) for name in KEYS)


def component(kinds: list[str]) -> str:
    """magnitude, phase, real or imaginary, where the third value of ImageType or FrameType says so."""
    third = kinds[2] if len(kinds) > 2 else ""
    words = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary", "PHASE MAP": "phase"}
    return words.get(third) or words.get(third.partition("_")[0], "")


def _spacing(values: dict[str, Any]) -> tuple[tuple[float, float] | None, str, float]:
    """Pixel spacing, whose it is, and the magnification that was divided out (PS3.3 10.7.1.3, C.8.7.10)."""
    patient, detector = numbers(values.get("PixelSpacing"), 2), numbers(values.get("ImagerPixelSpacing"), 2)
    if patient is not None and min(patient) > 0 and patient != detector:  # equal: it was not corrected
        return (patient[0], patient[1]), "patient", 1.0
    if detector is None or min(detector) <= 0:
        return None, "", 1.0
    factor = number(values.get("EstimatedRadiographicMagnificationFactor"))
    if factor is not None and 1 <= factor < 10:
        return (detector[0] / factor, detector[1] / factor), "magnified", factor
    return (detector[0], detector[1]), "detector", 1.0
