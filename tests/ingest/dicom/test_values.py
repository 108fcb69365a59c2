"""From stored values to intensities: bits, padding, inversion, rescale, lookup tables, colours, codecs."""

from __future__ import annotations

import struct
from typing import Any

import dicoms
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medssl.errors import UserError


def codes(cohort) -> set[str]:
    return set(cohort.findings()["code"])


def test_ct_is_in_hounsfield_units_with_rescale_of_each_slice(tmp_path, take) -> None:
    volume = dicoms.volume()
    intercepts = [f"{v:+.6E}" for v in (-1024, -1024, -1000, -1000, -1024, -1024)]
    objects = dicoms.series(
        volume, dicoms.AXIAL, Modality="CT", RescaleSlope="001.000000E+00", RescaleIntercept=intercepts
    )
    dicoms.save(objects, tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    expected = volume + np.array([-1024, -1024, -1000, -1000, -1024, -1024])[:, None, None]
    assert (row["unit"], row["dtype"]) == ("HU", "int16")
    np.testing.assert_array_equal(cohort.array(row["scan"]), expected[:, ::-1, ::-1])


def test_fractions_are_kept(tmp_path, take) -> None:
    volume = dicoms.volume()
    dicoms.save(
        dicoms.series(volume, dicoms.AXIAL, RescaleSlope="1.0002", RescaleIntercept="-3.5"), tmp_path / "source"
    )
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    assert row["dtype"] == "float32"
    np.testing.assert_allclose(cohort.array(row["scan"]), (volume * 1.0002 - 3.5)[:, ::-1, ::-1], rtol=1e-6, atol=1e-4)


def test_large_integers_survive_rescaling(tmp_path, take) -> None:
    volume = np.full((3, 4, 5), 60000, np.uint16)
    volume[0, 0, 0] = 0
    dicoms.save(dicoms.series(volume, dicoms.AXIAL, RescaleSlope=2, RescaleIntercept=-5), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    array = cohort.array(cohort.scans()["scan"][0])
    assert (array.min(), array.max()) == (-5, 119995)


def test_monochrome1_is_inverted(tmp_path, take) -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    ds = dicoms.image(pixels, Modality="DX", PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    dicoms.save([ds], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    assert row["kind"] == "image"
    np.testing.assert_array_equal(cohort.array(row["scan"]), 4095 - pixels)


def test_monochrome1_does_not_turn_hounsfield_units_round(tmp_path, take) -> None:
    volume = dicoms.volume()
    about = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "PhotometricInterpretation": "MONOCHROME1"}
    dicoms.save(dicoms.series(volume, dicoms.AXIAL, **about), tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.array(cohort.scans()["scan"][0]), volume[:, ::-1, ::-1] - 1024)


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (63536, None), (-2000, -1990), (63546, 63536)], ids=str)
def test_padding_is_masked_and_no_intensity(tmp_path, take, value, limit) -> None:
    volume = dicoms.volume()
    volume[:, :3] = -2000 if limit is None else np.random.default_rng(0).integers(-2000, -1989, volume[:, :3].shape)
    objects = dicoms.series(volume, dicoms.AXIAL, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    for ds in objects:
        for name, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
            if number is not None:
                tag = ds.add_new(name, "US" if number > 32767 else "SS", number)
                assert tag is None
    dicoms.save(objects, tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    padding = cohort.padding(row["scan"])
    expected = np.zeros(volume.shape, bool)
    expected[:, :3] = True
    np.testing.assert_array_equal(padding, expected[:, ::-1, ::-1])
    array = cohort.array(row["scan"])
    assert array.min() >= -1024 and row["percentiles"]["0.5"] >= -1024
    np.testing.assert_array_equal(array[~padding], (volume[:, ::-1, ::-1] - 1024)[~padding])


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda s: s.keyword)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_compressed_equals_uncompressed(tmp_path, take, syntax, dtype) -> None:
    volume = dicoms.volume((4, 64, 72), dtype=dtype)
    dicoms.save(dicoms.series(volume, dicoms.AXIAL), tmp_path / "plain")
    dicoms.save(dicoms.series(volume, dicoms.AXIAL), tmp_path / "packed", compress=syntax)
    plain, _ = take(tmp_path / "plain", "a")
    packed, _ = take(tmp_path / "packed", "b")
    assert list(plain.scans()["content_hash"]) == list(packed.scans()["content_hash"])
    assert plain.hash == packed.hash


def test_a_codec_that_panics_costs_its_file_alone(tmp_path, take) -> None:
    """pylibjpeg-rle is written in Rust: past the end of a segment it raises what is derived from no Exception."""
    run = b"\x81\x07"  # 128 times 7
    bad = dicoms.image(np.zeros((16, 16), np.uint16), SeriesInstanceUID="1.2.9")
    bad.file_meta.TransferSyntaxUID = RLELossless
    frame = struct.pack("<16I", 2, 64, 64 + 6, *[0] * 13) + 3 * run + 2 * run  # one run too many
    bad.PixelData = encapsulate([frame])
    bad["PixelData"].is_undefined_length = True
    dicoms.save([bad, dicoms.image(np.eye(16, dtype=np.uint16))], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert (report.accepted, report.rejected) == (1, 1)
    assert "unreadable" in codes(cohort)


def test_overlay_bits_are_dropped(tmp_path, take) -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    ds = dicoms.image(pixels | 0xF000, Modality="CR", BitsStored=12, HighBit=11)
    dicoms.save([ds], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.array(cohort.scans()["scan"][0]), pixels)


def test_colour(tmp_path, take) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    gray = np.repeat(pixels[..., :1], 3, axis=2)
    about = {"Modality": "US"}
    dicoms.save([dicoms.image(pixels, **about), dicoms.image(gray, **about)], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    shapes = cohort.scans().set_index("kind")["shape"].to_dict()
    assert shapes == {"colour": [3, 6, 5], "image": [6, 5]}


def alone(tmp_path, take, ds: Dataset, name: str = "cohort") -> tuple[np.ndarray, dict[str, Any], set[str]]:
    """(array, catalog row, codes of findings) of one object in a source of its own."""
    dicoms.save([ds], tmp_path / f"{name} source")
    cohort, report = take(tmp_path / f"{name} source", name)
    assert report.scans == 1
    row = cohort.scans().to_dict("records")[0]
    return np.asarray(cohort.array(row["scan"])), row, codes(cohort)


RAMP = (np.arange(12, dtype=np.uint16).reshape(3, 4) * 300).astype(np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"Modality": "DX", "PresentationLUTShape": "INVERSE"}, 4095 - RAMP),
        ({"Modality": "DX", "PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"},
         4095 - RAMP),
        ({"Modality": "DX", "PresentationLUTShape": "IDENTITY"}, RAMP),
        ({"Modality": "PT", "PhotometricInterpretation": "MONOCHROME1"}, RAMP),  # uptake, however it is shown
        ({"Modality": "NM", "PresentationLUTShape": "INVERSE"}, RAMP),
        ({"Modality": "CR", "PhotometricInterpretation": "MONOCHROME1", "RescaleType": "OD", "RescaleSlope": 2,
          "RescaleIntercept": 0}, RAMP * 2.0),
        ({"Modality": "CR", "PhotometricInterpretation": "MONOCHROME1", "RescaleType": "US", "RescaleSlope": 1,
          "RescaleIntercept": -5}, 4090.0 - RAMP),
    ],
    ids=["inverse", "both once", "identity", "PET", "NM", "optical density", "unspecified"],
)  # fmt: skip
def test_what_is_shown_inverted(tmp_path, take, about, expected) -> None:
    array, _, _ = alone(tmp_path, take, dicoms.image(RAMP, **TWELVE, **about))
    np.testing.assert_array_equal(array, expected)


def test_signed_values_are_inverted_around_their_middle(tmp_path, take) -> None:
    pixels = np.array([[-2048, -1], [0, 2047]], np.int16)
    ds = dicoms.image(pixels, Modality="DX", PhotometricInterpretation="MONOCHROME1", **TWELVE)
    np.testing.assert_array_equal(alone(tmp_path, take, ds)[0], [[2047, 0], [-1, -2048]])


@pytest.mark.parametrize(
    ("about", "unit", "code", "kept"),
    [
        ({"RescaleType": "HU"}, "HU", "", "HU"),
        ({"RescaleType": "US"}, "a.u.", "not_hounsfield", "US"),
        ({"RescaleType": "Zxqvtext"}, "a.u.", "not_hounsfield", "other"),
        ({}, "HU", "", None),
    ],
    ids=["HU", "US", "text", "none"],
)
def test_the_type_of_a_rescale(tmp_path, take, about, unit, code, kept) -> None:
    ds = dicoms.image(RAMP, Modality="CT", RescaleSlope=1, RescaleIntercept=-1000, **about)
    array, row, found = alone(tmp_path, take, ds)
    np.testing.assert_array_equal(array, RAMP.astype(int) - 1000)
    assert row["unit"] == unit and row["attributes"].get("rescale_type") == kept
    assert found & {"not_hounsfield", "no_rescale"} == ({code} if code else set())


def test_a_ct_without_rescale(tmp_path, take) -> None:
    _, row, found = alone(tmp_path, take, dicoms.image(RAMP, Modality="CT"))
    assert row["unit"] == "a.u." and "no_rescale" in found


@pytest.mark.parametrize(("slope", "intercept"), [("0", "1"), ("1e30", "1e300")])
def test_a_rescale_that_makes_no_sense(tmp_path, take, slope, intercept) -> None:
    with pytest.raises(UserError, match="make no sense"):
        alone(tmp_path, take, dicoms.image(RAMP, RescaleSlope=slope, RescaleIntercept=intercept))


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(("dtype", "values"), [("uint16", [0, 1, 2047, 4095]), ("int16", [-2048, -1, 0, 2047])])
def test_values_in_the_high_bits(tmp_path, take, endian, dtype, values) -> None:
    """12 bits that end at the 15th, with noise below them, as ACR-NEMA allowed."""
    pixels = np.array(values, dtype).reshape(2, 2)
    ds = dicoms.image((pixels << 4) | np.array([[3, 0], [15, 7]], dtype), BitsStored=12, HighBit=15)
    if endian == "big":
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    np.testing.assert_array_equal(alone(tmp_path, take, ds)[0], pixels)


def test_values_in_the_high_bits_of_compressed_pixels_are_refused(tmp_path, take) -> None:
    ds = dicoms.image(np.zeros((16, 16), np.uint16))
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = 12, 15
    with pytest.raises(UserError, match="layout that is not understood"):
        alone(tmp_path, take, ds)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int32"])
def test_other_widths(tmp_path, take, dtype) -> None:
    pixels = np.array([[0, 1], [100, 120]], dtype)
    pixels[1, 1] = np.iinfo(dtype).max
    np.testing.assert_array_equal(alone(tmp_path, take, dicoms.image(pixels))[0], pixels)


def test_single_bits_and_packed_pixels(tmp_path, take) -> None:
    ds = dicoms.image(np.zeros((3, 5), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    bits = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(np.uint8)
    ds.PixelData = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    np.testing.assert_array_equal(alone(tmp_path, take, ds)[0], bits)
    with pytest.raises(UserError, match="layout that is not understood"):
        alone(tmp_path, take, dicoms.image(RAMP, BitsAllocated=12, BitsStored=12, HighBit=11), "packed")


def test_float_pixels(tmp_path, take) -> None:
    pixels = np.array([[0.5, -1.25], [3.0, 1e6]], np.float32)
    ds = dicoms.image(pixels, RescaleSlope=2, RescaleIntercept=1)
    del ds.PixelData
    ds.FloatPixelData = pixels.tobytes()
    np.testing.assert_array_equal(alone(tmp_path, take, ds)[0], pixels * 2 + 1)


@pytest.mark.parametrize(
    ("dtype", "value", "limit", "hidden"),
    [
        ("int16", -2000, None, [-2000]),
        ("int16", 63536, None, [-2000]),  # the same bits, as an unsigned number
        ("int16", -5, 5, [-5, 0, 5]),
        ("int16", 5, -5, [-5, 0, 5]),
        ("uint16", 0, 5, [0, 5]),
        ("uint16", -2000, -1990, [63536, 63540]),
        ("uint16", -6, 5, [0, 5, 65530]),  # through zero: round the end
        ("uint16", 70000, None, []),
    ],
)
def test_padding_and_its_range(dtype, value, limit, hidden) -> None:
    from medssl.ingest.readers.dicom.header import Header
    from medssl.ingest.readers.dicom.values import _padding

    stored = np.array([0, 5, 6, 2000, 63530, 63536, 63540, 65530]).astype(dtype)
    if dtype == "int16":
        stored = np.array([-2000, -1999, -6, -5, 0, 5, 6, 2000], dtype)
    header = Header.__new__(Header)
    header.padding = (value, value if limit is None else limit)
    mask = _padding(stored, header, stored.min(), stored.max())
    assert ([] if mask is None else stored[mask].tolist()) == hidden


def lut(values: np.ndarray, first: int, bits: int) -> Dataset:
    ds = Dataset()
    ds.add_new("LUTDescriptor", "US", [len(values) % 65536, first, bits])
    ds.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    ds.ModalityLUTType = "US"
    return ds


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_a_modality_lookup_table_stands_for_the_rescale(tmp_path, take, shape) -> None:
    table = (np.arange(4096) // 7 + 100).astype(np.uint16)
    ds = dicoms.image(
        RAMP, Modality="CR", PresentationLUTShape=shape, ModalityLUTSequence=[lut(table, 0, 10)], **TWELVE
    )
    expected = table[RAMP].astype(int)
    array, _, _ = alone(tmp_path, take, ds)
    np.testing.assert_array_equal(array, 1023 - expected if shape == "INVERSE" else expected)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(("entries", "first", "bits"), [(256, 0, 16), (256, 0, 8), (1000, 20, 8), (1000, 20, 16)])
def test_palettes(tmp_path, take, endian, entries, first, bits) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (3, entries)).astype(np.uint8)
    pixels = rng.integers(0, 1300 if entries > 256 else 256, (6, 8)).astype(np.uint8 if entries == 256 else np.uint16)
    ds = dicoms.image(pixels, Modality="US", PhotometricInterpretation="PALETTE COLOR")
    order = ">" if endian == "big" else "<"
    if endian == "big":
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    for name, table in zip(("Red", "Green", "Blue"), colours, strict=True):
        data = (table.astype(f"{order}u2") * 257).astype(f"{order}u2").tobytes()
        if bits == 8:  # two in each word, the first one in its low byte
            data = table.view("<u2").astype(f"{order}u2").tobytes()
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [entries, first, bits])
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", data)
    expected = colours[:, np.clip(pixels.astype(int) - first, 0, entries - 1)]
    np.testing.assert_array_equal(alone(tmp_path, take, ds)[0], expected)


@pytest.mark.parametrize(
    ("about", "spacing", "origin", "code", "magnification"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, [0.2, 0.3], "patient", "", None),
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.25, 0.35]}, [0.2, 0.3], "patient", "", None),
        ({"ImagerPixelSpacing": [0.25, 0.35]}, [0.25, 0.35], "detector", "detector_spacing", None),
        ({"PixelSpacing": [0.25, 0.35], "ImagerPixelSpacing": [0.25, 0.35]}, [0.25, 0.35], "detector",
         "detector_spacing", None),
        ({"ImagerPixelSpacing": [0.25, 0.35], "EstimatedRadiographicMagnificationFactor": 1.25}, [0.2, 0.28],
         "magnified", "magnified_spacing", 1.25),
        ({"ImagerPixelSpacing": [0.25, 0.35], "EstimatedRadiographicMagnificationFactor": 0}, [0.25, 0.35], "detector",
         "detector_spacing", None),
        ({"PixelSpacing": [0, 0.3]}, None, None, "no_spacing", None),
    ],
    ids=["patient", "both", "detector", "uncorrected", "magnified", "no factor", "zero"],
)  # fmt: skip
def test_whose_pixel_spacing_it_is(tmp_path, take, about, spacing, origin, code, magnification) -> None:
    _, row, found = alone(tmp_path, take, dicoms.image(RAMP, Modality="DX", **about))
    assert row["spacing"] == spacing and row["attributes"].get("pixel_spacing_from") == origin
    assert row["attributes"].get("magnification") == magnification
    assert found & {"detector_spacing", "magnified_spacing", "no_spacing"} == ({code} if code else set())


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big"])
def test_bare_data_sets(tmp_path, take, syntax) -> None:
    """Without preamble and file meta information, as old systems and some PACS exports leave them."""
    ds = dicoms.image(RAMP)
    implicit, little = syntax == "implicit", syntax != "big"
    ds.PixelData = RAMP.astype("<u2" if little else ">u2").tobytes()
    (tmp_path / "source").mkdir()
    bare = Dataset()
    bare.update({element.tag: element for element in ds})
    bare.save_as(tmp_path / "source" / "image", implicit_vr=implicit, little_endian=little)
    assert (tmp_path / "source" / "image").read_bytes()[:2] == (b"\x08\x00" if little else b"\x00\x08")
    cohort, report = take(tmp_path / "source")
    assert report.scans == 1
    np.testing.assert_array_equal(cohort.array(cohort.scans()["scan"][0]), RAMP)


def test_colour_series_end_in_training(tmp_path, take) -> None:
    """An RGB series is a colour volume, gives samples in colour, and an encoder is pretrained on them."""
    from medssl.encoders import load_checkpoint
    from medssl.training import pretrain

    pixels = np.random.default_rng(0).integers(0, 255, (6, 20, 24, 3)).astype(np.uint8)
    objects = dicoms.series(pixels, dicoms.AXIAL, Modality="CT")
    dicoms.save(objects, tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    row = cohort.scans().iloc[0]
    assert (row["kind"], row["shape"]) == ("colour_volume", [3, 6, 20, 24])
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.moveaxis(pixels[:, ::-1, ::-1], -1, 0))
    found = pretrain(cohort, "rotation", out=tmp_path / "run", steps=1, batch=6)
    assert load_checkpoint(found.checkpoint)[0].in_channels == 3


@pytest.mark.parametrize("spacing", [[1e-9, 1e-9], [1e9, 1.0]])
def test_a_spacing_that_no_scanner_has_is_no_spacing(tmp_path, take, spacing) -> None:
    shot = dicoms.image(dicoms.volume((1, 64, 64))[0].astype(np.uint16), Modality="DX", PixelSpacing=spacing)
    dicoms.save([shot], tmp_path / "source" / "shot")
    slices = dicoms.series(dicoms.volume(), dicoms.AXIAL)
    for ds in slices:
        ds.PixelSpacing = spacing
    dicoms.save(slices, tmp_path / "source" / "series")
    cohort, report = take(tmp_path / "source")
    assert cohort.scans()["spacing"].tolist() == [None] and report.accepted == 1
    assert {f["code"] for f in report.findings} >= {"no_spacing", "bad_geometry"}
