"""PNG, JPEG, TIFF and MedMNIST files."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from medssl.cohort import Cohort
from medssl.errors import UserError
from medssl.ingest import ingest


def noise(shape=(12, 10), dtype="uint8", seed=0) -> np.ndarray:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


@pytest.fixture
def one(tmp_path: Path, take):
    """Ingest the single file that `write(path)` makes."""

    def run(write, name: str):
        (tmp_path / "source").mkdir()
        write(tmp_path / "source" / name)
        cohort, report = take(tmp_path / "source")
        row = cohort.scans().iloc[0]
        return row, np.asarray(cohort.array(row["scan"])), report

    return run


@pytest.mark.parametrize("name", ["a.png", "a.tif", "named_wrongly.jpg"])
def test_gray(one, name) -> None:
    pixels = noise()
    kind = "PNG" if name.endswith("jpg") else None
    row, array, _ = one(lambda p: Image.fromarray(pixels).save(p, kind), name)
    assert (row["kind"], row["dtype"], row["spacing"], row["affine"]) == ("image", "uint8", None, None)
    np.testing.assert_array_equal(array, pixels)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits(one, name) -> None:
    pixels = noise(dtype="uint16")
    row, array, _ = one(lambda p: Image.fromarray(pixels).save(p), name)
    assert row["dtype"] == "uint16"
    np.testing.assert_array_equal(array, pixels)


def test_sixteen_bits_that_hold_small_values_stay_sixteen(one) -> None:
    """An 8-bit image is shown from 0 to 255; a dark 16-bit one must not become one."""
    pixels = noise(dtype="uint16") % 40
    row, _, _ = one(lambda p: Image.fromarray(pixels).save(p), "a.png")
    assert row["dtype"] == "uint16"


def test_white_is_zero_and_deep_colour_tiffs(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    dark, colour = noise(dtype="uint16"), noise((12, 10, 3), "uint16")
    tifffile.imwrite(source / "a.tif", dark, photometric="miniswhite")
    tifffile.imwrite(source / "b.tif", colour, photometric="rgb")
    cohort, _ = take(source)
    arrays = {row["kind"]: cohort.array(row["scan"]) for row in cohort.scans().to_dict("records")}
    np.testing.assert_array_equal(arrays["image"], 65535 - dark)
    np.testing.assert_array_equal(arrays["colour"], np.moveaxis(colour, -1, 0))


def test_colour_is_kept_and_gray_saved_as_colour_is_not(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    colour, gray = noise((12, 10, 3)), noise((16, 16), seed=1)
    Image.fromarray(colour).save(source / "colour.png")
    Image.fromarray(gray).convert("RGB").save(source / "gray.png")
    Image.fromarray(gray).convert("RGB").save(source / "gray.jpg", quality=95)
    cohort, _ = take(source)
    shapes = sorted((row["kind"], tuple(row["shape"])) for row in cohort.scans().to_dict("records"))
    assert shapes == [("colour", (3, 12, 10)), ("image", (16, 16)), ("image", (16, 16))]


def test_exif_orientation_is_applied(one) -> None:
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    _, array, _ = one(lambda p: Image.fromarray(pixels).save(p, exif=exif, quality=95), "a.jpg")
    assert array.shape == (32, 16) and array[:14].min() > 200 and array[18:].max() < 50


def test_palette_and_transparency(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rgba = noise((12, 10, 4))
    rgba[..., 3] = 255
    rgba[:6, :, 3] = 0
    Image.fromarray(rgba).save(source / "a.png")
    Image.fromarray(noise((12, 10, 3))).quantize(16).save(source / "b.png")
    cohort, _ = take(source)
    assert set(cohort.scans()["kind"]) == {"colour"}
    hidden = [a for a in map(cohort.array, cohort.scans()["scan"]) if not a[:, :6].any()]
    assert len(hidden) == 1
    np.testing.assert_array_equal(hidden[0][:, 6:], np.moveaxis(rgba[6:, :, :3], -1, 0))


def test_damaged_files_are_refused_and_the_rest_goes_on(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(noise()).save(source / "good.png")
    for name in ("cut.jpg", "cut.png", "cut.tif"):
        Image.fromarray(noise((64, 64))).save(source / name)
        (source / name).write_bytes((source / name).read_bytes()[:-900])
    (source / "empty.png").write_bytes(b"")
    (source / "text.png").write_text("no picture")
    tifffile.imwrite(source / "pages.tif", noise((3, 20, 20)), photometric="minisblack")
    cohort, report = take(source)
    assert (report.accepted, report.rejected) == (1, 6)
    counts = cohort.files()["code"].value_counts().to_dict()
    assert counts["empty_file"] == counts["wrong_content"] == counts["several_pages"] == 1


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float32", "float64"])
def test_tiff_types_that_pillow_takes_for_others(one, dtype) -> None:
    low = 0 if dtype.startswith("u") else -100
    pixels = (np.random.default_rng(0).integers(low, 120, (12, 10)) * (1 if "8" in dtype else 250)).astype(dtype)
    pixels = pixels + np.uint32(3_000_000_000) if dtype == "uint32" else pixels
    row, array, _ = one(lambda p: tifffile.imwrite(p, pixels, photometric="minisblack"), "a.tif")
    np.testing.assert_array_equal(array, pixels)
    assert row["dtype"] == {"int8": "int8", "uint32": "uint32"}.get(dtype, "int16")


def test_pixels_that_are_no_numbers_are_masked(one, tmp_path) -> None:
    pixels = noise().astype("float32") + 0.5
    pixels[3, 4], pixels[5, 6] = np.nan, -np.inf
    row, array, _ = one(lambda p: tifffile.imwrite(p, pixels, photometric="minisblack"), "a.tif")
    good = np.isfinite(pixels)
    np.testing.assert_array_equal(array[good], pixels[good])
    assert array[3, 4] == array[5, 6] == pixels[good].min()
    assert row["percentiles"]["0.5"] > 0


def test_resolution_in_dots_is_no_spacing_in_mm(one) -> None:
    row, _, _ = one(lambda p: Image.fromarray(noise()).save(p, dpi=(254, 254)), "a.tif")
    assert row["spacing"] is None and row["affine"] is None


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_orientations(tmp_path, take, turn, dtype) -> None:
    """Deep colour goes another way than 8 bits; both must show the picture upright, as Pillow does for 8 bits."""
    pixels = noise((6, 4, 3)).astype(dtype)
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    cohort, _ = take(tmp_path / "source")
    tifffile.imwrite(path, pixels.astype("uint8"), photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert upright.shape == ((4, 6, 3) if turn > 4 else (6, 4, 3))
    np.testing.assert_array_equal(cohort.array(cohort.scans()["scan"][0]), np.moveaxis(upright, -1, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    shape = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", shape + bytes([bits, colour, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_png_says_that_it_was_reduced(tmp_path, take) -> None:
    pixels = noise((5, 4, 3), "uint16")
    (tmp_path / "source").mkdir()
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    (tmp_path / "source" / "a.png").write_bytes(png(4, 5, 16, 2, rows))
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.array(cohort.scans()["scan"][0]), np.moveaxis(pixels >> 8, -1, 0))
    assert "reduced_to_8_bit" in set(cohort.findings()["code"])


def jpeg_that_claims(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise((16, 16))).save(buffer, "JPEG")
    raw = bytearray(buffer.getvalue())
    place = raw.index(b"\xff\xc0") + 5
    raw[place : place + 4] = side.to_bytes(2, "big") * 2
    return bytes(raw)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.png", png(60_000, 60_000, 8, 0, b""), "too_large"),
        ("a.png", png(19_000, 19_000, 8, 2, b""), "truncated"),
        ("a.jpg", jpeg_that_claims(65_000), "too_large"),
        ("a.jpg", jpeg_that_claims(19_000), "truncated"),
    ],
)
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, workspace, name, content, code) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert Cohort.open(tmp_path / "cohort").files()["code"].tolist() == [code]


def test_animations_are_refused(tmp_path, workspace) -> None:
    (tmp_path / "source").mkdir()
    frames = [Image.fromarray(noise(seed=i)) for i in range(3)]
    frames[0].save(tmp_path / "source" / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=0)
    assert Cohort.open(tmp_path / "cohort").files()["code"].tolist() == ["moving_picture"]


def test_the_first_of_several_photographs_is_used(one) -> None:
    frames = [Image.fromarray(noise((16, 16, 3), seed=i)) for i in range(2)]
    _, array, report = one(lambda p: frames[0].save(p, "MPO", save_all=True, append_images=frames[1:]), "a.jpg")
    assert array.shape == (3, 16, 16) and "further_pictures" in {f["code"] for f in report.findings}


def test_files_of_one_name_in_two_folders_are_two_patients(tmp_path, take) -> None:
    for i, folder in enumerate(("a", "b")):
        (tmp_path / "source" / folder).mkdir(parents=True)
        Image.fromarray(noise(seed=i)).save(tmp_path / "source" / folder / "1.png")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.patients) == (2, 2)
    assert set(cohort.findings()["code"]) == {"no_patient_id"}


def test_exact_duplicates_are_found(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for i, seed in enumerate((0, 0, 1)):
        Image.fromarray(noise(seed=seed)).save(source / f"{i}.png")
    cohort, _ = take(source)
    assert (cohort.findings()["code"] == "exact_duplicate").sum() == 2 and len(cohort) == 3


def test_medmnist(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    arrays = {}
    for i, (split, n) in enumerate((("train", 5), ("val", 2), ("test", 3))):
        arrays[f"{split}_images"] = noise((n, 28, 28), seed=i)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez_compressed(source / "toymnist.npz", **arrays)
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.found) == (10, 1, 1)
    assert cohort.labels("split")["value"].value_counts().to_dict() == {"train": 5, "test": 3, "val": 2}
    labels = cohort.labels("label").set_index("scan")["value"]
    found = {(cohort.array(scan).tobytes(), labels[scan]) for scan in labels.index}
    want = {
        (arrays[f"{s}_images"][i].tobytes(), str(int(v)))
        for s in ("train", "val", "test")
        for i, (v,) in enumerate(arrays[f"{s}_labels"])
    }
    assert found == want


def test_a_damaged_medmnist_file_costs_itself_alone(tmp_path, take) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(noise()).save(source / "sound.png")
    arrays = {f"{s}_{what}": np.zeros((2, 28, 28) if what == "images" else (2, 1)) for s in ("train", "val", "test")
              for what in ("images", "labels")}  # fmt: skip
    np.savez(source / "a.npz", **arrays)
    sound = (source / "a.npz").read_bytes()
    place = sound.rindex(b"PK\x01\x02") + 6  # the version that is needed to unpack a member, in the zip's directory
    (source / "a.npz").write_bytes(sound[:place] + b"\xff\xff" + sound[place + 2 :])
    np.savez(source / "b.npz", **arrays | {"val_labels": np.array([["x"], ["y"]])})
    np.savez(source / "c.npz", **arrays | {"val_labels": np.zeros((0, 1)), "val_images": np.zeros((0, 28, 28))})
    _, report = take(source)
    assert (report.found, report.accepted, report.rejected, report.scans) == (4, 2, 2, 5)
