"""The second pass over a series: pixels of all images, straight into an array in RAS+ order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from medssl.ingest.identity import body_part, modality, vendor
from medssl.ingest.opening import open_file
from medssl.ingest.readers.dicom.first_pass import syntax_of
from medssl.ingest.readers.dicom.geometry import affine_ras, tilt_degrees
from medssl.ingest.readers.dicom.header import Header
from medssl.ingest.readers.dicom.series import Payload
from medssl.ingest.readers.dicom.values import Table, colour, intensities, is_hounsfield, modality_table, palette
from medssl.ingest.records import File, Job, Reject, Scan
from medssl.ingest.reorient import as_stored, spacing_of, turned_shape

TILTED = 0.5  # degrees
PIECE = 25  # images that are worth another process
# Asked first. gdcm, which pydicom asks first, takes two threads for a JPEG 2000 image (29 ms of CPU and 17 ms here, of
# which pylibjpeg needs 28 and 28) and gets in the way of the other processes; for JPEG-LS it is the slower one.
CODECS = {
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
}
OVERLAP = 0.05  # of the step by which the thickness may differ from it


def read(job: Job) -> Scan:
    """A volume (z, y, x) or (3, z, y, x), an image (y, x) or a colour image (3, y, x).

    Raises:
        Reject: a file that cannot be decoded or is not what its header said.
    """
    payload: Payload = job.payload
    headers, first = payload.headers, payload.headers[0]
    affine = affine_ras(headers) if first.is_located else None
    if payload.kind == "volume" and affine is None:
        raise Reject("bad_geometry")
    hounsfield = is_hounsfield(first)
    turn = affine if affine is not None and payload.kind == "volume" else np.eye(4)
    array, padding, findings = _assemble(job.files, payload, turn)
    if padding is not None:
        findings.append("padding_masked")
    findings += _doubts(first, hounsfield)
    scan = Scan(
        array=array,
        kind="volume" if array.ndim == 3 else "colour_volume",
        unit="HU" if hounsfield else "a.u.",
        modality=modality(first.modality),
        vendor=vendor(first.vendor),
        body_part=body_part(first.body_part),
        padding=padding,
        findings=findings,
        attributes=dict(payload.attributes),
    )
    if payload.kind == "volume" and affine is not None:
        tilt = tilt_degrees(affine)
        if tilt > TILTED:
            findings.append("gantry_tilt")
            scan.attributes["gantry_tilt_degrees"] = round(tilt, 2)
        step = float(np.linalg.norm(affine[:3, 2])) * np.cos(np.radians(tilt))
        if first.thickness and abs(first.thickness - step) > OVERLAP * step:
            findings.append("overlapping_slices" if first.thickness > step else "slice_gaps")
        scan.affine = turned_shape((len(headers), first.rows, first.columns), affine)[1]
        scan.spacing = spacing_of(scan.affine)
        return scan
    scan.array = array[:, 0] if array.ndim == 4 else array[0]
    scan.padding = None if padding is None else padding[0]
    scan.kind = "image" if scan.array.ndim == 2 else "colour"
    scan.spacing, scan.affine = first.spacing, affine
    return scan


def pieces(job: Job) -> list[tuple[Job, int]]:
    """Jobs for `decode` with some images each, and the index of the first; none where that is not worth it."""
    payload: Payload = job.payload
    headers = payload.headers
    if len(headers) < 2 * PIECE or any(_is_direct(h) or h.tiles or h.table for h in headers):
        return []
    out = []
    for start in range(0, len(headers), PIECE):
        places = payload.places[start : start + PIECE]
        files = [job.files[place] for place in dict.fromkeys(places)]
        index = {place: i for i, place in enumerate(dict.fromkeys(places))}
        part = Payload(payload.kind, headers[start : start + PIECE], [index[place] for place in places])
        out.append((replace(job, files=files, payload=part), start))
    return out


def decode(job: Job) -> list[np.ndarray]:
    """Stored values of each image, (rows, columns) or with colours last; `read` takes them up from `decoded` files.

    Raises:
        Reject: as `read` does, and where the images are not all alike.
    """
    images = {k: stored for k, stored, _ in _images(job.files, job.payload)}
    if len({(stored.shape, stored.dtype) for stored in images.values()}) > 1:
        raise Reject("mixed_series")
    return [images[k] for k in sorted(images)]


def _assemble(
    files: list[File], payload: Payload, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """(z, y, x) or (3, z, y, x), padding (z, y, x) or None, and codes: every image written where it belongs."""
    headers = payload.headers
    shape, _ = turned_shape((len(headers), headers[0].rows, headers[0].columns), affine)
    array: np.ndarray | None = None
    view: np.ndarray | None = None
    padding: np.ndarray | None = None
    findings: list[str] = []
    for k, stored, table in _images(files, payload):
        header, hidden = headers[k], None
        if stored.ndim == 3:
            values = colour(stored, header)
        else:
            values, hidden = intensities(stored, header, table)
        if array is None or view is None:
            array = np.empty(((3, *shape) if values.ndim == 3 else shape), values.dtype)
            view = as_stored(array, affine)
        if values.shape != view.shape[1:]:
            raise Reject("mixed_series")
        dtype = np.result_type(array.dtype, values.dtype)
        if dtype != array.dtype:
            array = array.astype(dtype)
            view = as_stored(array, affine)
        view[k] = values
        if hidden is not None:
            if padding is None:
                padding = np.zeros(shape, bool)
            as_stored(padding, affine)[k] = hidden
    if array is None:
        raise Reject("unreadable")
    if array.ndim == 4 and (array[:1] == array[1:]).all():
        array = np.ascontiguousarray(array[0])
    return array, padding if padding is not None and padding.any() else None, findings


def _doubts(first: Header, hounsfield: bool) -> list[str]:
    codes = []
    if first.modality == "CT" and not hounsfield:
        codes.append("not_hounsfield" if first.rescaled or first.table else "no_rescale")
    if first.spacing_from in ("detector", "magnified"):
        codes.append(f"{first.spacing_from}_spacing")
    return codes


def _images(files: list[File], payload: Payload) -> Iterator[tuple[int, np.ndarray, Table | None]]:
    """(index of the header, stored values, Modality LUT or None), file after file."""
    if payload.decoded:
        for k, stored in enumerate(chain.from_iterable(map(_kept, payload.decoded))):
            yield k, stored, None
        return
    members: dict[int, list[int]] = {}
    for k, place in enumerate(payload.places):
        members.setdefault(place, []).append(k)
    for place, images in members.items():
        file, headers = files[place], [payload.headers[k] for k in images]
        if all(_is_direct(h) for h in headers):
            with open_file(file) as stream:
                for k, header in zip(images, headers, strict=True):
                    yield k, _direct(stream, header), None
        else:
            for k, decoded in zip(images, _decoded(file, headers), strict=True):
                yield k, *decoded


def _kept(path: str) -> Iterator[np.ndarray]:
    """The images of a decoded piece, one by one: each into memory that is still warm, where one read of all is not."""
    with Path(path).open("rb") as file:
        np.lib.format.read_magic(file)
        (count, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
        for _ in range(count):
            yield np.fromfile(file, dtype, int(np.prod(shape))).reshape(shape)


def _is_direct(header: Header) -> bool:
    """Whether pixels lie in the file as they are, one image after the other."""
    plain = header.samples == 1 and header.allocated in (8, 16, 32) and header.photometric != "PALETTE COLOR"
    return bool(header.offset) and plain and not header.tiles and not header.table


def _direct(stream: Any, header: Header) -> np.ndarray:
    dtype = np.dtype(f"<{'i' if header.signed else 'u'}{header.allocated // 8}")
    values = np.empty((header.rows, header.columns), dtype)
    stream.seek(header.offset)
    if stream.readinto(values.data.cast("B")) != values.nbytes:
        raise Reject("truncated")
    return values


def _decoded(file: File, headers: list[Header]) -> Iterator[tuple[np.ndarray, Table | None]]:
    """By pydicom and its codecs, as RGB where there are colours.

    Raises:
        Reject: a codec that is missing, or a file that cannot be decoded.
    """
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.uid import UID

    first = headers[0]
    whole = replace(first, rows=first.rows * (first.tiles or 1), columns=first.columns * (first.tiles or 1))
    shape = (whole.rows, whole.columns) + ((whole.samples,) if whole.samples > 1 else ())
    wanted = [0] if first.tiles else [h.frame for h in headers]
    try:
        with open_file(file) as stream, disable_value_validation():
            data = pydicom.dcmread(stream, force=True)
            syntax = data.file_meta.TransferSyntaxUID = UID(syntax_of(data))
            if first.high_bit != first.stored - 1 and syntax.is_encapsulated:
                raise Reject("unsupported_pixels")  # what a codec makes of bits that are not the lowest is not defined
            for values in _frames(data, syntax, wanted):
                values = values.reshape(shape) if values.size == np.prod(shape) else values
                if values.shape != shape:
                    raise Reject("unsupported_pixels")
                if first.tiles:
                    yield from ((_tile(values, header), None) for header in headers)
                elif first.photometric == "PALETTE COLOR":
                    yield palette(values, data), None
                elif first.table:
                    yield values, modality_table(data)
                else:
                    yield values, None
    except Reject:
        raise
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).lower()
        missing = "unable to decompress" in text or "not supported" in text or "plugins" in text
        if "12-bit precision" in text:
            raise Reject("codec_jpeg_12bit") from None
        raise Reject("unknown_codec" if missing and "unable to decode" not in text else "unreadable") from None
    except Exception:  # whatever a codec stumbles over in a damaged file
        raise Reject("unreadable") from None
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of a codec written in Rust: derived from no Exception
            raise Reject("unreadable") from None
        raise


def _frames(data: Any, syntax: Any, wanted: list[int]) -> Iterator[np.ndarray]:
    """The frames of a data set, by the codec that is chosen for its syntax or, where that one fails, by any."""
    from pydicom.pixels import iter_pixels

    options: dict[str, Any] = {"correct_unused_bits": syntax.is_encapsulated}
    done = 0
    if (plugin := CODECS.get(str(syntax))) is not None:
        try:
            for values in iter_pixels(data, indices=wanted, decoding_plugin=plugin, **options):
                yield values
                done += 1
            return
        except (RuntimeError, ValueError, AttributeError, NotImplementedError):
            pass  # not installed, or not able to
    yield from iter_pixels(data, indices=wanted[done:], **options)


def _tile(mosaic: np.ndarray, header: Header) -> np.ndarray:
    row, column = divmod(header.frame, header.tiles)
    rows, columns = header.rows, header.columns
    return np.ascontiguousarray(mosaic[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns])
