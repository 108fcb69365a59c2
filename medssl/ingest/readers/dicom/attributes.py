"""The whitelist of attributes that are read from a DICOM file, and how their values become numbers and words."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from medssl.ingest.privacy import about
from medssl.ingest.readers.dicom.elements import value_of

TAGS = f"""
    SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID PatientID IssuerOfPatientID InstitutionName Modality
    Manufacturer BodyPartExamined Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration
    BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames ImagePositionPatient ImageOrientationPatient
    PixelSpacing ImagerPixelSpacing EstimatedRadiographicMagnificationFactor SliceThickness RescaleSlope
    RescaleIntercept RescaleType PixelPaddingValue PixelPaddingRangeLimit PresentationLUTShape InstanceNumber
    AcquisitionNumber AcquisitionTime EchoTime TemporalPositionIdentifier DiffusionBValue DiffusionGradientOrientation
    TriggerTime ImageType ConvolutionKernel StackID ModalityLUTSequence
    {" ".join(about.TAGS)}
    """.split()
SIEMENS_B_VALUE = 0x0019100C  # with its creator at (0019,0010)


@lru_cache(maxsize=1)
def _tag_names() -> dict[int, str]:
    from pydicom.datadict import tag_for_keyword

    names = {tag: name for name in TAGS if (tag := tag_for_keyword(name)) is not None}
    return names | {SIEMENS_B_VALUE: "SiemensBValue"}


@lru_cache(maxsize=1)
def wanted() -> list[int]:
    return [*_tag_names(), 0x00190010]


def values_of(data: Any) -> dict[str, Any]:
    """What the file says of TAGS; an element that cannot be read counts as missing."""
    names = _tag_names()
    values = {}
    for tag in list(data.keys()):  # by tag and not by keyword, which takes pydicom twice as long
        if (name := names.get(int(tag))) is not None:
            try:
                values[name] = value_of(data, tag)
            except Exception:  # pydicom raises whatever the bytes make it raise
                continue
    return values


def seconds(value: str) -> float | None:
    """Since midnight, of a time HHMMSS.FFFFFF."""
    try:
        return int(value[:2]) * 3600 + int(value[2:4]) * 60 + float(value[4:] or 0)
    except ValueError:
        return None


def text(value: Any) -> str:
    return "" if value is None else str(value).strip().strip("\0")


def short(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def number(value: Any) -> float | None:
    """A finite number, or None: values like `-01.024000E+03` occur, and so do empty, multiple and absurd ones."""
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        try:
            found = float(str(value[0] if isinstance(value, list | tuple) else value).strip())
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return found if math.isfinite(found) else None


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        found = tuple(float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None
