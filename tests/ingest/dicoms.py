"""Small DICOM files for tests, written from a volume and an affine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image(pixels: np.ndarray, **attributes: Any) -> Dataset:
    """A single-frame MR (or, with Modality="CT", CT) object with these pixels (rows, columns[, 3])."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage if attributes.get("Modality") == "CT" else MRImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = attributes.pop("StudyInstanceUID", "1.2.3.4")
    ds.SeriesInstanceUID = attributes.pop("SeriesInstanceUID", "1.2.3.4.5")
    ds.Modality = "MR"
    ds.PatientID = "P-0001"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def series(volume: np.ndarray, affine: np.ndarray, **attributes: Any) -> list[Dataset]:
    """One object a slice of a volume (k, j, i) whose index (i, j, k) maps to RAS+ mm by `affine`.

    Of an attribute, a list has one value a slice; a tuple is one value of several parts.
    """
    lps = LPS @ affine
    columns, rows = np.linalg.norm(lps[:3, 0]), np.linalg.norm(lps[:3, 1])
    out = []
    for k, pixels in enumerate(volume):
        own = {name: value[k] if isinstance(value, list) else value for name, value in attributes.items()}
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
        out.append(
            image(
                pixels,
                ImagePositionPatient=[float(v) for v in (lps @ [0, 0, k, 1])[:3]],
                ImageOrientationPatient=[float(v) for v in (*(lps[:3, 0] / columns), *(lps[:3, 1] / rows))],
                PixelSpacing=[float(rows), float(columns)],
                InstanceNumber=k + 1,
                **own,
            )
        )
    return out


def save(objects: list[Dataset], folder: Path, names: list[str] | None = None, compress: str = "") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, ds in enumerate(objects):
        if compress:
            ds.compress(compress, generate_instance_uid=False)
        path = folder / (names[i] if names else f"{i:03d}.dcm")
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def volume(shape: tuple[int, int, int] = (6, 20, 24), seed: int = 0, dtype: str = "int16") -> np.ndarray:
    """Noise in the range of stored CT values."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(dtype)


AXIAL = np.array([[-0.8, 0, 0, 10.0], [0, -0.9, 0, 20.0], [0, 0, 3.0, -30.0], [0, 0, 0, 1]])  # head first, supine


def oblique(seed: int = 1) -> np.ndarray:
    """A rotated affine with different steps along each axis."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.7, 0.9, 2.5])
    affine[:3, 3] = [5.0, -40.0, 12.0]
    return affine


def segmentation(
    slices: list[Dataset], frames: list[tuple[int, int, np.ndarray]], kind: str = "BINARY", **attributes: Any
) -> Dataset:
    """A SEG drawn on `slices`: frames are (segment, slice, pixels), segment 0 in a label map; fractions end at 100."""
    pixels = np.stack([frame[2] for frame in frames])
    segments = sorted({segment for segment, _, _ in frames})
    ds = image(pixels[0].astype(np.uint8), Modality="SEG", SeriesInstanceUID="1.2.3.4.66")
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7" if kind == "LABELMAP" else "1.2.840.10008.5.1.4.1.1.66.4"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.NumberOfFrames, ds.SegmentationType = len(frames), kind
    if kind == "BINARY":
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
        packed = np.packbits(pixels.astype(bool).reshape(-1), bitorder="little").tobytes()
        ds.PixelData = packed + b"\0" * (len(packed) % 2)
    else:
        ds.PixelData = pixels.astype(np.uint8).tobytes()
        ds.MaximumFractionalValue = 100
    ds.SegmentSequence = [_item(SegmentNumber=segment, SegmentLabel="thing") for segment in segments]
    references = [_item(ReferencedSOPInstanceUID=s.SOPInstanceUID) for s in slices]
    ds.ReferencedSeriesSequence = [
        _item(SeriesInstanceUID=slices[0].SeriesInstanceUID, ReferencedInstanceSequence=references)
    ]
    first = slices[0]
    if "ImageOrientationPatient" in first:
        ds.SharedFunctionalGroupsSequence = [
            _item(
                PlaneOrientationSequence=[_item(ImageOrientationPatient=first.ImageOrientationPatient)],
                PixelMeasuresSequence=[_item(PixelSpacing=first.PixelSpacing, SliceThickness=1)],
            )
        ]
    ds.PerFrameFunctionalGroupsSequence = []
    for segment, k, _ in frames:
        source = _item(ReferencedSOPInstanceUID=slices[k].SOPInstanceUID)
        group = _item(DerivationImageSequence=[_item(SourceImageSequence=[source])])
        if kind != "LABELMAP":
            group.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=segment)]
        if "ImagePositionPatient" in slices[k]:
            group.PlanePositionSequence = [_item(ImagePositionPatient=slices[k].ImagePositionPatient)]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def _item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def enhanced(slices: list[Dataset], **attributes: Any) -> Dataset:
    """An enhanced object whose frames are these single-frame objects, with functional groups of a frame each."""
    first = slices[0]
    ds = image(first.pixel_array, Modality=first.Modality, SeriesInstanceUID="1.2.3.4.77")
    ct = first.Modality == "CT"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1" if ct else "1.2.840.10008.5.1.4.1.1.4.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.PixelData = b"".join(s.PixelData for s in slices)
    ds.NumberOfFrames = len(slices)
    ds.SharedFunctionalGroupsSequence = [
        _item(PixelMeasuresSequence=[_item(PixelSpacing=first.PixelSpacing, SliceThickness=3)])
    ]
    ds.PerFrameFunctionalGroupsSequence = []
    for s in slices:
        group = _item(
            PlanePositionSequence=[_item(ImagePositionPatient=s.ImagePositionPatient)],
            PlaneOrientationSequence=[_item(ImageOrientationPatient=s.ImageOrientationPatient)],
        )
        if "RescaleSlope" in s:
            rescale = _item(RescaleSlope=s.RescaleSlope, RescaleIntercept=s.RescaleIntercept, RescaleType="HU")
            group.PixelValueTransformationSequence = [rescale]
        if "EchoTime" in s:
            group.MREchoSequence = [_item(EffectiveEchoTime=float(s.EchoTime))]
        if "TemporalPositionIdentifier" in s:
            group.FrameContentSequence = [_item(TemporalPositionIndex=int(s.TemporalPositionIdentifier))]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def mosaic(volume: np.ndarray, affine: np.ndarray, **attributes: Any) -> Dataset:
    """A Siemens mosaic of a volume (k, j, i) with the private (CSA) header that says how many tiles there are."""
    lps = LPS @ affine
    count, rows, columns = volume.shape
    side = int(np.ceil(np.sqrt(count)))
    sheet = np.zeros((side * rows, side * columns), volume.dtype)
    for k, pixels in enumerate(volume):
        top, left = k // side * rows, k % side * columns
        sheet[top : top + rows, left : left + columns] = pixels
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    i, j, k = (lps[:3, a] / steps[a] for a in range(3))
    corner = lps[:3, 3] - i * steps[0] * (side - 1) * columns / 2 - j * steps[1] * (side - 1) * rows / 2
    ds = image(
        sheet,
        ImagePositionPatient=[float(v) for v in corner],
        ImageOrientationPatient=[float(v) for v in (*i, *j)],
        PixelSpacing=[float(steps[1]), float(steps[0])],
        SpacingBetweenSlices=float(steps[2]),
        SliceThickness=float(steps[2]),
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        **attributes,
    )
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(
        0x10, "OB", _csa({"NumberOfImagesInMosaic": [str(count)], "SliceNormalVector": [f"{v:.8f}" for v in k]})
    )
    return ds


def _csa(tags: dict[str, list[str]]) -> bytes:
    """A CSA2 header as nibabel reads it (`nibabel.nicom.csareader`)."""
    out = b"SV10\4\3\2\1" + np.array([len(tags), 77], "<u4").tobytes()
    for name, values in tags.items():
        out += name.encode().ljust(64, b"\0") + np.array([len(values)], "<i4").tobytes()
        out += b"US\0\0" if name.startswith("Number") else b"FD\0\0"
        out += np.array([0, len(values), 77], "<i4").tobytes()
        for value in values:
            data = value.encode() + b"\0"
            out += np.array([len(data), len(data), 77, len(data)], "<i4").tobytes()
            out += data.ljust(-(-len(data) // 4) * 4, b"\0")
    return out + b"\0" * (-len(out) % 2)
