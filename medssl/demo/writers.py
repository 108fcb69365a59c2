"""One virtual patient to files: a DICOM series or a NIfTI volume, and the mask of its lesions."""

from __future__ import annotations

import copy
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medssl.demo.scanners import Scan, Scanner

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

NOTICE = "VIRTUAL PATIENT: made by medssl from an average brain, not a person"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write (Z, Y, X) voxels as .nii.gz with sform and qform, the same bytes every time."""
    import nibabel

    image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = NOTICE[:79].encode()
    path.write_bytes(gzip.compress(image.to_bytes(), 4, mtime=0))


def write_dicom(folder: Path, scan: Scan, scanner: Scanner, patient: str, seed: int, rng: np.random.Generator) -> None:
    """Write a series of single-frame MR images (PS3.3 A.4) into `folder`; file names say nothing of their order.

    Args:
        folder: must exist.
        scan: voxels, and the affine from which position and orientation follow (LPS: x and y turn their sign).
        scanner: for header and transfer syntax.
        patient: PatientID; with `seed` it decides all UIDs.
        seed: of the collection.
        rng: decides dates, age and sex, which have nothing to do with the lesions.
    """
    from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

    common = _header(scanner, patient, seed, rng)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    row, column = (to_lps[:3, i] / np.linalg.norm(to_lps[:3, i]) for i in (0, 1))
    common.ImageOrientationPatient = [_decimal(v) for v in (*row, *column)]
    bright = float(np.percentile(scan.voxels, 99.5))
    common.WindowCenter, common.WindowWidth = round(bright / 2), max(round(bright), 1)
    suffix = ".dcm" if scanner.compressed else ""
    for number, plane in enumerate(scan.voxels):
        image = copy.deepcopy(common)  # Dataset.copy shares its elements
        image.SOPInstanceUID = uid(seed, patient, "image", number)
        image.InstanceNumber = number + 1
        corner = to_lps @ [0, 0, number, 1]
        image.ImagePositionPatient = [_decimal(v) for v in corner[:3]]
        image.SliceLocation = _decimal(float(np.dot(np.cross(row, column), corner[:3])))
        image.PixelData = plane.astype("<u2").tobytes()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        if scanner.compressed:
            image.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
        else:
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{_hash(seed, patient, 'file', number)[:10]}{suffix}", enforce_file_format=True)


def uid(seed: int, *parts: str | int) -> UID:
    """A UID under 2.25, the root that belongs to nobody (PS3.5 B.2), made from a hash instead of a UUID."""
    from pydicom.uid import UID

    return UID(f"2.25.{int(_hash(seed, *parts)[:32], 16)}")


def _header(scanner: Scanner, patient: str, seed: int, rng: np.random.Generator) -> Dataset:
    """What all images of a series share."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    age = int(rng.integers(25, 86))
    year, month, day = int(rng.integers(2016, 2025)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    clock = f"{int(rng.integers(7, 19)):02d}{int(rng.integers(60)):02d}{int(rng.integers(60)):02d}"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = UID(MR_IMAGE_STORAGE)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = uid(0, "medssl", "implementation")
    ds.file_meta.ImplementationVersionName = "MEDSSL_DEMO"
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.SOPClassUID = MR_IMAGE_STORAGE
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{year}{month:02d}{day:02d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = clock
    ds.AccessionNumber = f"V{_hash(seed, patient, 'accession')[:8].upper()}"
    ds.Modality = "MR"
    ds.Manufacturer = scanner.manufacturer
    ds.ManufacturerModelName = scanner.model
    ds.InstitutionName = "Virtual Hospital"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Virtual brain MR"
    ds.SeriesDescription = "T1 axial (virtual)"
    ds.PatientName = f"Virtual^{patient}"
    ds.PatientID = patient
    ds.IssuerOfPatientID = "MEDSSL-VIRTUAL"
    ds.PatientBirthDate = f"{year - age}{int(rng.integers(1, 13)):02d}{int(rng.integers(1, 29)):02d}"
    ds.PatientSex = "FM"[int(rng.integers(2))]
    ds.PatientAge = f"{age:03d}Y"
    ds.PatientComments = NOTICE
    ds.BodyPartExamined = "BRAIN"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "SE", "NONE", ""
    ds.MRAcquisitionType = "2D"
    ds.SliceThickness = scanner.slice_mm
    ds.SpacingBetweenSlices = scanner.slice_mm + scanner.gap_mm
    ds.RepetitionTime, ds.EchoTime, ds.FlipAngle = scanner.repetition_ms, scanner.echo_ms, scanner.flip_degrees
    ds.EchoTrainLength = 1
    ds.MagneticFieldStrength = scanner.tesla
    ds.DeviceSerialNumber = "0000"
    ds.SoftwareVersions = "virtual"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = uid(seed, patient, "study")
    ds.SeriesInstanceUID = uid(seed, patient, "series")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 3, 1
    ds.FrameOfReferenceUID = uid(seed, patient, "frame")
    ds.PositionReferenceIndicator = ""
    ds.ImageComments = NOTICE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = scanner.matrix
    ds.PixelSpacing = [scanner.pixel_mm, scanner.pixel_mm]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


def _decimal(value: float) -> str:
    """At most 16 characters (VR DS), to a millionth of a millimetre at any place in a scanner."""
    return f"{value:.8f}"


def _hash(*parts: str | int) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()
