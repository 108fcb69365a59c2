"""What is kept of a DICOM image: a whitelist of attributes, checked.

A file gives one `Header` an image: one for a single-frame object, one a frame for others (`frames`), one a tile for a
Siemens mosaic. Whatever comes later sees images, and not files.
"""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Any

from medssl.ingest.privacy.about import NOBODY, About, about
from medssl.ingest.readers.dicom.attributes import number, numbers, seconds, short, text
from medssl.ingest.records import Reject

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


def header_of(values: dict[str, Any], offset: int) -> Header:
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
