"""PNG, JPEG and TIFF: one image a file, 8 or 16 bits, gray or RGB."""

from __future__ import annotations

import math
import warnings
from typing import Any, BinaryIO

import numpy as np

from medssl.ingest.bids import owners
from medssl.ingest.identity import Keys, file_names, without_ending
from medssl.ingest.opening import open_file
from medssl.ingest.records import File, Job, Plan, Probe, Reject, Scan

MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
MAX_PIXELS = 400_000_000
# Pixels that one byte of a file can stand for: a bit for a block of 64 and its end, in JPEG; deflate packs 1032 bytes
# of 8 pixels into one.
PIXELS_A_BYTE = {"JPEG": 1024, "MPO": 1024, "PNG": 8256, "TIFF": 8256}
BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 258, 259, 262, 274  # tags of TIFF 6.0
FAX = (2, 3, 4, 34661)  # compressions that need next to nothing for a white page
TURNS = {  # orientation -> transposed, then steps along rows and columns that make the picture upright (section 8)
    2: (False, 1, -1), 3: (False, -1, -1), 4: (False, -1, 1),
    5: (True, 1, 1), 6: (True, 1, -1), 7: (True, -1, -1), 8: (True, -1, 1),
}  # fmt: skip
GRAY_TOLERANCE = 2  # levels: JPEG may leave a trace of colour in a gray picture that was saved as RGB


def sniff(head: bytes, name: str) -> bool:
    return head.startswith(MAGIC)


def plan(probes: list[Probe], keys: Keys) -> Plan:
    probes, paddings = companions(probes)
    jobs = []
    for probe in probes:
        padding = paddings.get(probe.file.id)
        job = one_file_job("image", Probe(probe.file, "image", padding), keys)
        if padding is not None:
            job.files.append(padding.file)
            job.findings.append("padding_masked")
        jobs.append(job)
    return Plan(jobs)


def companions(probes: list[Probe]) -> tuple[list[Probe], dict[str, Probe]]:
    """Scans, and their paddings by file id: `a_padding.png` beside `a.png` says where it holds no measurement.

    This is how `medssl export` writes them.
    """
    scans = {(p.file.root, without_ending(p.file.name)): p for p in probes}
    found = {}
    for (root, path), probe in scans.items():
        scan = scans.get((root, path.removesuffix("_padding")))
        if path.endswith("_padding") and scan is not None:
            found[scan.file.id] = probe
    used = {p.file.id for p in found.values()}
    return [p for p in probes if p.file.id not in used], found


def one_file_job(reader: str, probe: Probe, keys: Keys, *part: str) -> Job:
    """A scan that is (a part of) one file without any patient in it: the file counts as patient and exam.

    In a BIDS data set its path says to whom it belongs.
    """
    file = probe.file
    job = Job(
        reader=reader,
        scan=keys.scan(file.root, file.name, *part),
        files=[file],
        patient=keys.patient_of("file", file.root, file.name, *(part if reader == "medmnist" else ())),
        exam=keys.exam("file", file.root, file.name, *(part if reader == "medmnist" else ())),
        series=keys.series("file", file.root, file.name),
        patient_from="file",
        names=file_names(keys, file.name),
        payload=probe.header,
    )
    if (named := owners(file, keys)) is not None:
        job.patient, job.exam, names = named
        job.patient_from = "id"
        job.names += names
    return job


def read(job: Job) -> Scan:
    """Gray (y, x) or RGB (3, y, x), turned upright by EXIF, in the file's own bit depth; transparency over black."""
    pixels, findings = load(job.files[0])
    padding = None
    if job.payload is not None:
        padding = load(job.payload.file)[0] != 0
        if padding.shape != pixels.shape[:2]:
            raise Reject("mask_grid")
    numbers = finite(pixels)
    if pixels.ndim == 3 and numbers is not None:
        raise Reject("unsupported_pixels")
    if pixels.ndim == 3:
        red, *others = (pixels[..., i] for i in range(3))
        spread = max(float((np.maximum(red, c) - np.minimum(red, c)).max()) for c in others)
        if spread <= (GRAY_TOLERANCE if pixels.dtype == np.uint8 else 0):
            return Scan(np.ascontiguousarray(pixels[..., 1]), "image", padding=padding, findings=findings)
        return Scan(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)), "colour", findings=findings)
    if numbers is not None:
        findings.append("not_finite")
        pixels = np.where(numbers, pixels, 0)
        padding = ~numbers if padding is None else padding | ~numbers
    return Scan(pixels, "image", padding=padding, findings=findings)


def finite(values: np.ndarray) -> np.ndarray | None:
    """Which values are numbers that float32 can hold, or None where all of them are."""
    if values.dtype.kind != "f":
        return None
    with np.errstate(invalid="ignore"):
        good: np.ndarray = np.abs(values) <= np.finfo(np.float32).max  # a NaN is not
    return None if good.all() else good


def load(file: File) -> tuple[np.ndarray, list[str]]:
    """(H, W) or (H, W, 3), and codes of findings.

    Raises:
        Reject: damaged, truncated, too large, several pages, moving, or a layout that is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow refuses twice as many as soon as it sees them; `_check` the rest
    findings: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_file(file) as stream, Image.open(stream, formats=("PNG", "JPEG", "TIFF")) as image:
                _check(image, file.size)
                if image.format == "TIFF" and _needs_tifffile(image):
                    return _load_tiff(file), findings
                if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and _png_bits(stream) == 16:
                    findings.append("reduced_to_8_bit")
                if image.format == "MPO":
                    findings.append("further_pictures")
                signed = image.format == "TIFF" and _sample_format(image) == (2, 16)
                image.load()
                array = _to_array(ImageOps.exif_transpose(image))
                return array.astype(np.int16) if signed else array, findings
    except Image.DecompressionBombError:
        raise Reject("too_large") from None
    except UnidentifiedImageError:
        return _load_tiff(file), findings  # a TIFF in a dialect that Pillow does not know, or a damaged file
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        MemoryError,
        OverflowError,
    ) as error:
        raise Reject("truncated" if "truncated" in str(error) else "unreadable") from None


def _check(image: Any, size: int) -> None:
    """What the header claims, before pixels are decoded."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise Reject("too_large")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Reject("several_pages" if image.format == "TIFF" else "moving_picture")
    compression = image.tag_v2.get(COMPRESSION, 1) if image.format == "TIFF" else None
    if compression not in FAX and pixels > (8 if compression == 1 else PIXELS_A_BYTE[image.format]) * size:
        raise Reject("truncated")


def _needs_tifffile(image: Any) -> bool:
    """What Pillow would read as something else: deep colour, inverted deep gray, signed bytes, 32 bits unsigned."""
    bits = image.tag_v2.get(BITS, (1,))
    if max(bits) > 8 and (len(bits) > 1 or image.tag_v2.get(PHOTOMETRIC) == 0):
        return True
    return _sample_format(image) in ((2, 8), (1, 32))


def _sample_format(image: Any) -> tuple[int, int]:
    """1 unsigned, 2 signed or 3 floating point, and bits (TIFF 6.0, section 19)."""
    return int(image.tag_v2.get(339, (1,))[0]), max(image.tag_v2.get(BITS, (1,)))


def _to_array(image: Any) -> np.ndarray:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = np.asarray(image.convert("RGBA"), np.uint16)
        return (rgba[..., :3] * rgba[..., 3:] // 255).astype(np.uint8)
    array = np.asarray(image)
    if image.mode.startswith("I"):  # 16-bit gray; PNG has it as 32-bit "I" in some versions of Pillow
        if array.min() < 0 or array.max() > 65535:
            return array.astype(np.int32)
        return array.astype(np.uint16)
    if image.mode not in ("L", "RGB", "F"):
        raise Reject("unsupported_pixels")
    return array


def _load_tiff(file: File) -> np.ndarray:
    import tifffile

    try:
        with open_file(file) as stream, tifffile.TiffFile(stream) as tiff:
            if len(tiff.pages) > 1:
                raise Reject("several_pages")
            page: Any = tiff.pages[0]
            if math.prod(page.shape) > 4 * MAX_PIXELS:
                raise Reject("too_large")
            if page.compression == 1 and page.nbytes > file.size:
                raise Reject("truncated")
            array = page.asarray()
            white_is_zero = page.photometric == 0
            turn = int(page.tags.valueof(ORIENTATION, 1))
    except Reject:
        raise
    except Exception as error:  # tifffile raises whatever its parser stumbles over
        raise Reject("unknown_codec" if "imagecodecs" in str(error) else "unreadable") from None
    if array.ndim == 3 and array.shape[0] in (3, 4) and array.shape[-1] not in (3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        array = array[..., :3]
    elif array.ndim != 2:
        raise Reject("unsupported_pixels")
    if array.dtype.kind not in "uif":
        raise Reject("unsupported_pixels")
    if white_is_zero:
        if array.dtype.kind != "u":  # what white is, nobody says
            raise Reject("unsupported_pixels")
        array = np.iinfo(array.dtype).max - array
    transposed, rows, columns = TURNS.get(turn, (False, 1, 1))
    array = array.swapaxes(0, 1) if transposed else array
    return np.ascontiguousarray(array[::rows, ::columns])


def _png_bits(stream: BinaryIO) -> int:
    place = stream.tell()
    stream.seek(24)
    bits = stream.read(1)[0]
    stream.seek(place)
    return bits
