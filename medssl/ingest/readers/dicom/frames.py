"""One header a frame, for objects that hold many: functional groups (PS3.3 C.7.6.16), nuclear medicine, mosaics, films.

Values of a frame's own functional groups go before shared ones, and shared ones before those of the object.
"""

from __future__ import annotations

from dataclasses import replace
from sys import intern
from typing import Any

import numpy as np

from medssl.ingest.opening import open_file
from medssl.ingest.readers.dicom.attributes import number, numbers, short, text
from medssl.ingest.readers.dicom.header import KEYS, Header, component
from medssl.ingest.records import File, Reject

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
MAX_FILM = 64  # images that are kept of a film
IN_SPACE = (0x00209057, 0x00200032, 0x00209221, 0x00209228)  # dimension pointers that tell where, not which


def of_multiframe(source: File, header: Header) -> list[Header]:
    """The frames of an object: placed in space where it says how, else as a film of images.

    Raises:
        Reject: its functional groups are damaged.
    """
    data = _read(source, [*GROUPS, "DimensionIndexSequence", "ConcatenationUID", "DetectorInformationSequence",
                          "FrameIncrementPointer", "SliceVector", "SpacingBetweenSlices"])  # fmt: skip
    per_frame = data.get(GROUPS[1])
    if per_frame:
        if len(per_frame) != header.frames:
            raise Reject("bad_frames")
        return _enhanced(source, data, per_frame, header)
    if header.modality == "NM" and (nuclear := _nuclear(source, data, header)):
        return nuclear
    if header.frames == 1:
        return [header]
    film = replace(header, position=None, orientation=None, container=source.id)
    return [_frame(film, i) for i in of_film(header.frames)]  # no more headers than that, whatever the object claims


def of_film(count: int) -> list[int]:
    """The frames that are kept of a film: all of them, or MAX_FILM that are spread evenly."""
    kept = min(MAX_FILM, count)
    return [(2 * i + 1) * count // (2 * kept) for i in range(kept)]


def of_mosaic(source: File, header: Header) -> list[Header]:
    """The tiles of a Siemens mosaic, each with its place.

    The number of slices, their normal and distance come from the CSA header (private group 0029, read by nibabel).
    ImagePositionPatient is that of the upper left corner of a slice as large as the whole mosaic, so the first slice
    starts half the difference further in (nibabel, "DICOM mosaic").

    Raises:
        Reject: bad_mosaic: the private header is missing or does not fit.
    """
    from nibabel.nicom import csareader

    data = _read(source, None, (0x00290010, 0x00291010, 0x00290011, 0x00291110, 0x0019100A, 0x00190010))
    try:
        csa = csareader.get_csa_header(data, "image")
        count = int(csareader.get_n_mosaic(csa) or 0) if csa else 0
        normal = csareader.get_slice_normal(csa) if csa else None
        spacing = number(_read(source, ["SpacingBetweenSlices"]).get("SpacingBetweenSlices")) or header.thickness
    except Exception:  # nibabel raises whatever a damaged private header makes of itself
        raise Reject("bad_mosaic") from None
    if not 0 < count <= header.rows * header.columns or not header.is_located or spacing is None or spacing <= 0:
        raise Reject("bad_mosaic")
    tiles = int(np.ceil(np.sqrt(count)))
    rows, columns = header.rows // tiles, header.columns // tiles
    if rows * tiles != header.rows or columns * tiles != header.columns or header.samples != 1:
        raise Reject("bad_mosaic")
    assert header.orientation is not None and header.spacing is not None and header.position is not None
    row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
    cross = np.cross(row, column)
    normal = cross if normal is None or not np.isfinite(normal).all() else np.asarray(normal, float)
    if abs(abs(normal @ cross) - 1) > 0.01:
        raise Reject("bad_mosaic")
    first = np.array(header.position)
    first = first + row * header.spacing[1] * (header.columns - columns) / 2
    first = first + column * header.spacing[0] * (header.rows - rows) / 2
    out = []
    for i in range(count):
        place = tuple(float(v) for v in first + i * spacing * normal)
        out.append(replace(header, position=place, rows=rows, columns=columns, frame=i, frames=count, tiles=tiles,
                           own=True, container=source.id))  # fmt: skip
    return out


def _read(source: File, names: list[str] | None, tags: tuple[int, ...] = ()) -> Any:
    import pydicom

    wanted: Any = [*(names or []), *tags]
    with open_file(source) as file:
        try:
            return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=wanted)
        except Exception:  # pydicom raises whatever its parser stumbles over
            raise Reject("unreadable") from None


def _enhanced(source: File, data: Any, per_frame: Any, header: Header) -> list[Header]:
    shared_items = data.get(GROUPS[0])
    shared = shared_items[0] if shared_items else None
    container = text(data.get("ConcatenationUID")) or source.id
    pointers = [int(item.get("DimensionIndexPointer", 0) or 0) for item in data.get("DimensionIndexSequence") or ()]
    out = []
    for i, own in enumerate(per_frame):
        groups = [g for g in (own, shared) if g is not None]

        def get(sequence: str, name: str, groups: list[Any] = groups) -> Any:
            for group in groups:
                items = group.get(sequence)
                if items and (value := items[0].get(name)) is not None:
                    return value
            return None

        measures = numbers(get("PixelMeasuresSequence", "PixelSpacing"), 2)
        spacing = header.spacing if measures is None or min(measures) <= 0 else measures
        slope = number(get("PixelValueTransformationSequence", "RescaleSlope"))
        intercept = number(get("PixelValueTransformationSequence", "RescaleIntercept"))
        if slope == 0:
            raise Reject("bad_rescale")
        kind = text(get("PixelValueTransformationSequence", "RescaleType")).upper()
        thickness = number(get("PixelMeasuresSequence", "SliceThickness")) or header.thickness
        position = numbers(get("PlanePositionSequence", "ImagePositionPatient"), 3)
        orientation = numbers(get("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        if position is None:  # of the whole object, only where it has one frame at each of them: not here
            position = header.position if header.frames == 1 else None
        out.append(
            replace(
                _frame(header, i),
                position=position,
                orientation=orientation or header.orientation,
                spacing=spacing,
                spacing_from="patient" if measures is not None else header.spacing_from,
                thickness=thickness,
                slope=header.slope if slope is None else slope,
                intercept=header.intercept if intercept is None else intercept,
                rescaled=header.rescaled or slope is not None or intercept is not None,
                rescale_type=intern(kind or header.rescale_type),
                keys=_frame_keys(header, get, pointers, thickness),
                own=position is not None,
                container=container,
            )
        )
    return out


def _frame_keys(header: Header, get: Any, pointers: list[int], thickness: float | None) -> tuple[str, ...]:
    index = get("FrameContentSequence", "DimensionIndexValues")
    index = [index] if isinstance(index, int) else list(index or ())
    which = [str(v) for pointer, v in zip(pointers, index, strict=False) if pointer not in IN_SPACE]
    frame_type = next(
        (v for s in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence",
                     "XAXRFFrameTypeSequence") if (v := get(s, "FrameType"))), None)  # fmt: skip
    kinds = [text(v).upper() for v in frame_type] if frame_type else []
    complex_part = text(get("MRImageFrameTypeSequence", "ComplexImageComponent")).lower()
    gradient_items = get("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    gradient = numbers(gradient_items[0].get("DiffusionGradientOrientation"), 3) if gradient_items else None
    found = {
        "echo": short(number(get("MREchoSequence", "EffectiveEchoTime"))),
        "b_value": short(number(get("MRDiffusionSequence", "DiffusionBValue"))),
        "temporal": short(number(get("FrameContentSequence", "TemporalPositionIndex"))),
        "stack": text(get("FrameContentSequence", "StackID")),
        "component": complex_part if complex_part in ("phase", "real", "imaginary", "magnitude") else component(kinds),
        "kernel": text(get("CTReconstructionSequence", "ConvolutionKernel")),
        "dimensions": " ".join(which),
        "gradient": "" if gradient is None else " ".join(f"{v:.4f}" for v in gradient),
        "trigger": short(number(get("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"))),
        "image_type": "\\".join(kinds),
        "acquisition": short(number(get("FrameContentSequence", "FrameAcquisitionNumber"))),
        "thickness": short(thickness),
    }
    return tuple(intern(found[name]) or old for name, old in zip(KEYS, header.keys, strict=True))


def _nuclear(source: File, data: Any, header: Header) -> list[Header]:
    """Slices of a reconstructed tomogram (PS3.3 C.8.4.15); empty for planar and dynamic studies, which are films."""
    detectors, slices = data.get("DetectorInformationSequence"), data.get("SliceVector")
    pointer = data.get("FrameIncrementPointer")
    pointers = [pointer] if isinstance(pointer, int) else list(pointer or ())
    step = number(data.get("SpacingBetweenSlices"))
    if [int(p) for p in pointers] != [0x00540080] or not detectors or step is None or header.spacing is None:
        return []
    order = numbers(slices, header.frames)
    position = numbers(detectors[0].get("ImagePositionPatient"), 3) or header.position
    orientation = numbers(detectors[0].get("ImageOrientationPatient"), 6) or header.orientation
    if order is None or position is None or orientation is None:
        return []
    normal = np.cross(orientation[:3], orientation[3:])
    out = []
    for i, k in enumerate(order):
        place = tuple(float(v) for v in np.array(position) + (k - 1) * step * normal)
        whole = replace(_frame(header, i), position=place, orientation=orientation, own=True, container=source.id)
        out.append(whole)
    return out


def _frame(header: Header, index: int) -> Header:
    aligned = header.allocated % 8 == 0
    offset = header.offset + index * header.frame_bytes if header.offset and aligned else 0
    return replace(header, frame=index, offset=offset)
