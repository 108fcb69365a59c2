"""Which objects are images that can be read: SOP classes, transfer syntaxes, files that are not what they say."""

from __future__ import annotations

import zlib
from pathlib import Path

import dicoms
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medssl.ingest.identity import Keys
from medssl.ingest.readers import dicom
from medssl.ingest.readers.dicom import kinds
from medssl.ingest.records import File, Ignore, Reject

PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)


def verdict(path: Path, workspace) -> str:
    """Of the first pass; empty where it takes the file for an image."""
    status = path.stat()
    try:
        found = dicom.probe(
            File(str(path), "root", path.name, status.st_size, status.st_mtime_ns, Keys(workspace).file("root", "x"))
        )
    except (Reject, Ignore) as raised:
        return f"{type(raised).__name__.lower()} {raised.code}"
    return "" if found else "nothing"


@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        ("1.2.840.10008.1.2.4.100", "codec_video"),
        ("1.2.840.10008.1.2.4.102.1", "codec_video"),
        ("1.2.840.10008.1.2.4.108", "codec_video"),
        ("1.2.840.10008.1.2.4.93", "codec_jpeg2000_part2"),
        ("1.2.840.10008.1.2.4.94", "codec_elsewhere"),
        ("1.2.840.10008.1.2.4.112", "codec_jpeg_xl"),
        ("1.2.840.10008.1.2.8.1", "codec_deflated_frames"),
        ("1.2.840.10008.1.2.1.98", "codec_encapsulated"),
        ("1.2.840.10008.1.2.4.90", ""),
        ("1.2.840.10008.1.2.4.201", ""),
        ("1.2.840.10008.1.2.5", ""),
    ],
)
def test_codecs_that_nothing_reads_are_named(tmp_path, workspace, syntax, code) -> None:
    ds = dicoms.image(PIXELS)
    ds.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    path = dicoms.save([ds], tmp_path)[0]
    raw, old = (
        path.read_bytes(),
        b"UI\x14\x001.2.840.10008.1.2.5\0",
    )  # pydicom does not write syntaxes that it does not know
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    size = int.from_bytes(raw[140:144], "little") + len(new) - 20
    raw = raw[:140] + size.to_bytes(4, "little") + raw[144:]
    path.write_bytes(raw.replace(old, b"UI" + len(new).to_bytes(2, "little") + new, 1))
    assert verdict(path, workspace) == (f"reject {code}" if code else "")


@pytest.mark.parametrize(
    ("sop_class", "code"),
    [
        ("1.2.840.10008.1.3.10", "dicomdir"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "structured_report"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "structured_report"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "structured_report"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "presentation_state"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "radiotherapy_object"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "radiotherapy_object"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "radiotherapy_object"),
        ("1.2.840.10008.5.1.4.1.1.30", "derived_object"),
        ("1.2.840.10008.5.1.4.1.1.66.5", "derived_object"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "no_pixels"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "no_pixels"),
        ("1.2.840.10008.5.1.4.1.1.66", "no_pixels"),
        ("1.2.840.10008.5.1.4.1.1.481.1", "derived_object"),
    ],
)
def test_objects_that_are_no_images_are_ignored_by_name(tmp_path, workspace, sop_class, code) -> None:
    """Even those that have pixels, as doses do."""
    path = dicoms.save([dicoms.image(PIXELS, SOPClassUID=sop_class)], tmp_path)[0]
    assert verdict(path, workspace) == f"ignore {code}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda ds: delattr(ds, "PixelData"), "reject truncated"),
        (lambda ds: [delattr(ds, name) for name in ("PixelData", "Rows")], "reject unreadable"),
        (lambda ds: [delattr(ds, name) for name in ("PixelData", "SOPClassUID")], "reject truncated"),
        (lambda ds: setattr(ds, "Rows", 0), "reject unsupported_pixels"),
        (lambda ds: setattr(ds, "SamplesPerPixel", 2), "reject unsupported_pixels"),
        (lambda ds: setattr(ds, "BitsStored", 17), "reject unsupported_pixels"),
        (lambda ds: setattr(ds, "HighBit", 3), "reject unsupported_pixels"),
        (lambda ds: setattr(ds, "Rows", 17), "reject truncated"),
        (lambda ds: setattr(ds, "SOPClassUID", "1.2.3.4"), ""),  # of a vendor, with pixels
    ],
    ids=["no pixels", "no rows", "no class", "empty", "samples", "bits", "high bit", "short", "private"],
)
def test_images_that_are_not_whole(tmp_path, workspace, change, expected) -> None:
    ds = dicoms.image(PIXELS)
    change(ds)
    assert verdict(dicoms.save([ds], tmp_path)[0], workspace) == expected


def test_a_deflated_bomb_is_found_before_it_goes_off(tmp_path, workspace, monkeypatch) -> None:
    ds = dicoms.image(PIXELS)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.ImageComments = "x" * 10
    path = dicoms.save([ds], tmp_path)[0]
    assert verdict(path, workspace) == ""
    raw = path.read_bytes()
    start = 144 + int.from_bytes(raw[140:144], "little")
    inflated = zlib.decompress(raw[start:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    filler = b"\x09\x00\x10\x00OB\0\0" + (40 << 20).to_bytes(4, "little") + b"\0" * (40 << 20)
    path.write_bytes(raw[:start] + packer.compress(inflated + filler) + packer.flush())
    monkeypatch.setattr(kinds, "MAX_INFLATED", 30 << 20)
    assert path.stat().st_size < 100_000 and verdict(path, workspace) == "reject too_large"


def test_a_gzipped_file_is_an_archive(tmp_path, workspace) -> None:
    import gzip

    path = dicoms.save([dicoms.image(PIXELS)], tmp_path)[0]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert verdict(path, workspace) == "ignore archive"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\0" * 128 + b"DICM\x02\0\0\0", True),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", True),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", True),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", True),
        (b"\x02\0\0\0UL\x04\0\0\0\0\0\0\0\0\0", True),
        (b"\x08\0\x05\0\xff\xff\xff\0ISO_IR 100", False),
        (b"\0\x08\0\x05\0\0\0\x0aISO_IR 100", False),
        (b"\x08\0", False),
        (b"PK\x03\x04" + b"\0" * 400, False),
        (b"\x08\0\xff\xffCS\x0a\0ISO_IR 100", False),
    ],
)
def test_what_looks_like_dicom(head, found) -> None:
    assert dicom.sniff(head, "name") is found
