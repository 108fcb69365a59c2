"""Files to damage, and ways to damage them: for `ingest_fuzz.py`.

The files are pydicom's own, those of pydicom-data, real scans at MEDSSL_DATA, and NIfTI, PNG, TIFF, npz and archives
made of them, none over 300 kB. Text elements carry the canary before a file is damaged.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image, PngImagePlugin

CANARY = "QXZCANARY"
LARGEST = 300_000  # bytes of a file
ENDINGS = ("", ".dcm", ".nii", ".nii.gz", ".png", ".zip", ".npz")

WRONG_VALUES: list[tuple[str, list]] = [
    ("Rows", [0, 1, 65535, 3]), ("Columns", [0, 1, 65535, 7]), ("NumberOfFrames", ["0", "-3", "2147483647", "99999"]),
    ("BitsAllocated", [0, 1, 7, 12, 16, 32, 64, 65535]), ("BitsStored", [0, 1, 15, 17, 65535]),
    ("HighBit", [0, 3, 16, 65535]), ("PixelRepresentation", [0, 1, 7]), ("SamplesPerPixel", [0, 2, 3, 4, 65535]),
    ("PlanarConfiguration", [0, 1, 9]), ("PhotometricInterpretation", ["RGB", "MONOCHROME1", "PALETTE COLOR", "X", ""]),
    ("PixelSpacing", [[-1, 1], [0, 0], [1e30, 1e30], [1e-30, 1], [1, 1, 1]]), ("SliceThickness", [-5, 0, "1e300"]),
    ("ImagePositionPatient", [[0, 0], [1e30] * 3, [1, 2, 3]]), ("RescaleSlope", [0, "1e300", "-1", "0.001"]),
    ("ImageOrientationPatient", [[0] * 6, [1, 0, 0, 1, 0, 0], [1e9] * 6, [1, 0, 0]]), ("RescaleIntercept", ["1e300"]),
    ("PixelPaddingValue", [0, 65535]), ("PixelPaddingRangeLimit", [0, 65535]), ("Modality", ["", "SEG", "PT", "XX"]),
    ("ImageType", [["DERIVED", "SECONDARY", "MOSAIC"], [""], ["ORIGINAL"] * 500]), ("PatientID", ["", "\0", "A" * 64]),
    ("SOPClassUID", ["", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.1.3.10", "9.9"]),
    ("SeriesInstanceUID", ["", "1.2"]), ("InstanceNumber", ["-2147483648", "0"]), ("AcquisitionTime", ["99", "x"]),
    ("SpecificCharacterSet", ["ISO_IR 192", "nonsense", ["ISO 2022 IR 87", ""]]), ("EchoTime", ["1e300", "-1"]),
]  # fmt: skip
WRONG_KINDS = [("UN", b"\xff" * 9), ("OB", b"\0\1"), ("LT", f"{CANARY} \\ x"), ("FD", [1e308, -1.0]),
               ("SQ", [pydicom.Dataset()]), ("AT", 0x00100010), ("DS", "")]  # fmt: skip


@dataclass
class Original:
    kind: str  # dicom, nifti, image, npz or archive
    ending: str
    content: bytes


def originals(data: Path | None) -> list[Original]:
    """The files, each kind in a fixed order; the real scans only where `data` is there."""
    dicoms = [Original("dicom", ".dcm", planted(p.read_bytes())) for p in dicom_files(data)]
    dicoms = [f for f in dicoms if len(f.content) <= LARGEST]
    return [*dicoms, *niftis(data), *images(data), *npzs(), *archives(dicoms)]


def dicom_files(data: Path | None) -> list[Path]:
    folders = [Path(pydicom.__file__).parent / "data" / "test_files"]
    try:
        import data_store

        folders.append(Path(data_store.__file__).parent / "data")
    except ImportError:
        pass
    if data is not None:
        folders += [data / "dicom_series" / "vendor_zoo"]
    found = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    return [p for p in found if p.stat().st_size <= LARGEST and b"DICM" in p.read_bytes()[:200]]


def planted(content: bytes) -> bytes:
    """With the canary in its text, where pydicom can write the file again; else as it is."""
    try:
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(io.BytesIO(content))
            data.PatientName = data.InstitutionName = data.StudyDescription = f"{CANARY}^NAME"
            data.PatientID = data.AccessionNumber = f"{CANARY}1"
            data.private_block(0x0011, "medssl fuzz", create=True).add_new(1, "LO", f"{CANARY} private")
            return written(data)
    except Exception:
        return content


def written(data: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    data.save_as(stream)
    return stream.getvalue()


def niftis(data: Path | None) -> list[Original]:
    rng = np.random.default_rng(0)
    out = []
    for shape, dtype in (((9, 8, 7), np.int16), ((8, 8, 6, 3), np.uint8), ((6, 6, 6), np.float32), ((9, 9), np.uint8)):
        for kind in (nib.Nifti1Image, nib.Nifti2Image):
            image = kind((rng.normal(size=shape) * 100).astype(dtype), np.diag([2, 2, 3, 1]))
            image.header["descrip"] = CANARY
            out.append(Original("nifti", ".nii", image.to_bytes()))
    if data is not None:
        for path in sorted((data / "hippocampus").rglob("*.nii.gz"))[:4]:
            out.append(Original("nifti", ".nii.gz", path.read_bytes()))
            out.append(Original("nifti", ".nii", gzip.decompress(path.read_bytes())))
    return out


def images(data: Path | None) -> list[Original]:
    y, x = np.mgrid[:64, :64]
    pictures = [
        Image.fromarray((x + y).astype(np.uint8)),
        Image.fromarray(np.stack([x, y, x * y % 255], -1).astype("u1")),
    ]
    if data is not None:
        pictures += [Image.open(path) for path in sorted((data / "busi").rglob("*.jpg"))[:4]]
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", CANARY)
    out = []
    for picture in pictures:
        for ending, options in ((".jpg", {"comment": CANARY}), (".png", {"pnginfo": note}), (".tif", {})):
            stream = io.BytesIO()
            picture.save(stream, {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[ending], **options)
            out.append(Original("image", ending, stream.getvalue()))
    return out


def npzs() -> list[Original]:
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = np.arange(count * 28 * 28).reshape(count, 28, 28).astype(np.uint8)
        arrays[f"{split}_labels"] = np.zeros((count, 1), np.uint8)
    out = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, **arrays)
        out.append(Original("npz", ".npz", stream.getvalue()))
    return out


def archives(dicoms: list[Original]) -> list[Original]:
    """A zip and a tar.gz of the smallest files, named with the canary inside."""
    small = sorted(dicoms, key=lambda f: len(f.content))[20:24]
    packed, rolled = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, file in enumerate(small):
            archive.writestr(f"{CANARY}/{i}.dcm", file.content)
    with tarfile.open(fileobj=rolled, mode="w:gz") as archive:
        for i, file in enumerate(small):
            member = tarfile.TarInfo(f"{CANARY}/{i}.dcm")
            member.size = len(file.content)
            archive.addfile(member, io.BytesIO(file.content))
    return [Original("archive", ".zip", packed.getvalue()), Original("archive", ".tar.gz", rolled.getvalue())]


def mutant(files: list[Original], seed: int, number: int) -> tuple[str, bytes]:
    """(file name, content) of one case; the same for the same seed and number."""
    rng = random.Random(f"{seed} {number}")
    kinds = sorted({f.kind for f in files})
    kind = rng.choices(kinds, [12 if k == "dicom" else 4 if k == "nifti" else 2 for k in kinds])[0]
    chosen = rng.choice([f for f in files if f.kind == kind])
    content = own_uids(chosen.content, rng) if kind == "dicom" else chosen.content
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tricks = BYTES
        if kind == "dicom" and rng.random() < 0.5:
            tricks = [wrong_values, without_elements, wrong_kinds, deep]
        elif kind == "nifti" and chosen.ending == ".nii" and rng.random() < 0.6:
            tricks = [nifti_header]
        content = rng.choice(tricks)(content, rng, files)
    ending = (
        chosen.ending if rng.random() < 0.9 else rng.choice(("", ".dcm", ".nii", ".nii.gz", ".png", ".zip", ".npz"))
    )
    return f"{CANARY}{number:06d}{ending}", content


def own_uids(content: bytes, rng: random.Random) -> bytes:
    """Other instance UIDs of the same length, so that no case is taken for a repetition of another."""
    try:
        data = pydicom.dcmread(io.BytesIO(content), specific_tags=["SOPInstanceUID", "SeriesInstanceUID"], force=True)
        uids = [data.SOPInstanceUID, data.SeriesInstanceUID][: rng.choice((1, 2, 2, 2))]
    except Exception:
        return content
    for uid in filter(None, map(str, uids)):
        content = content.replace(uid.encode(), "".join(rng.choice("123456789") for _ in uid).encode())
    return content


def wrong_values(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    def change(data: pydicom.Dataset) -> None:
        for name, values in rng.sample(WRONG_VALUES, rng.choice((1, 1, 2, 5))):
            setattr(data, name, rng.choice(values))

    return edited(content, change)


def without_elements(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    def change(data: pydicom.Dataset) -> None:
        for tag in rng.sample(list(data.keys()), min(len(data), rng.choice((1, 3, 20)))):
            del data[tag]

    return edited(content, change)


def wrong_kinds(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """Values of another representation under a tag that is read."""

    def change(data: pydicom.Dataset) -> None:
        for name, _ in rng.sample(WRONG_VALUES, 2):
            vr, value = rng.choice(WRONG_KINDS)
            data.add_new(pydicom.datadict.tag_for_keyword(name), vr, value)

    return edited(content, change)


def deep(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """Sequences within sequences, before the elements that are read."""

    def change(data: pydicom.Dataset) -> None:
        inner = pydicom.Dataset()
        for _ in range(rng.choice((3, 60, 150))):
            outer = pydicom.Dataset()
            outer.add_new(rng.choice((0x00081140, 0x00089215, 0x52009229, 0x00283000)), "SQ", [inner])
            inner = outer
        data.update(inner)

    return edited(content, change)


def edited(content: bytes, change) -> bytes:
    """As pydicom writes it after the change, which may be impossible: then as it was."""
    try:
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(io.BytesIO(content), force=True)
            change(data)
            return written(data)
    except Exception:
        return content


def nifti_header(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """Absurd dimensions, types, offsets, scales and affines in the header (NIfTI-1 offsets; NIfTI-2 meets chance)."""
    out = bytearray(content.ljust(544, b"\0"))
    place, code, values = rng.choice((
        (40, "<h", (-1, 0, 1, 5, 7, 8, 32767)), (42, "<h", (-1, 0, 32767)), (46, "<h", (-32768, 32767)),
        (48, "<h", (0, 32767, -2)), (70, "<h", (0, 1, 128, 1792, 2304, -1)), (72, "<h", (0, 1, 64, 999)),
        (108, "<f", (0.0, -1e9, 1e30, float("nan"))), (112, "<f", (0.0, float("inf"), float("nan"), 1e38)),
        (76, "<f", (float("nan"), 7.0)), (80, "<f", (0.0, -1.0, float("nan"), 1e38)), (252, "<h", (0, -1, 99)),
        (254, "<h", (0, 5)), (280, "<f", (0.0, float("nan"), 1e38)), (123, "<b", (0, 99)), (0, "<i", (0, 540, -1)),
    ))  # fmt: skip
    struct.pack_into(code, out, place, rng.choice(values))
    return bytes(out)


def flips(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    out = bytearray(content)
    reach = rng.choice((len(out), min(len(out), 2000)))
    for _ in range(rng.choice((1, 8, 64, 500)) if reach else 0):
        out[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncated(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    return content[: rng.randrange(rng.choice((400, 3000, len(content) + 1)))]


def cut(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    start, length = span(content, rng)
    return content[:start] + content[start + length :]


def blank(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    start, length = span(content, rng)
    return (
        content[:start]
        + rng.choice((b"\0", b"\xff")) * len(content[start : start + length])
        + content[start + length :]
    )


def foreign(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """Begins as a file of another kind."""
    length = rng.choice((4, 132, 400))
    return rng.choice(files).content[:length] + content[length:]


def garbage(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    where = rng.choice((len(content), len(content), rng.randrange(len(content) + 1)))
    return content[:where] + rng.randbytes(rng.choice((1, 100, 50_000))) + content[where:]


def huge_lengths(content: bytes, rng: random.Random, files: list[Original]) -> bytes:
    """A huge number where a length may be."""
    out = bytearray(content)
    reach = min(len(out), 3000) - 4
    for _ in range(rng.choice((1, 3, 10)) if reach > 0 else 0):
        value = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0x10000000, 0))
        struct.pack_into("<I", out, rng.randrange(reach) // 2 * 2, value)
    return bytes(out)


def span(content: bytes, rng: random.Random) -> tuple[int, int]:
    return rng.randrange(len(content) + 1), rng.choice((1, 4, 64, 5000))


BYTES = [flips, flips, truncated, cut, blank, foreign, garbage, huge_lengths]
