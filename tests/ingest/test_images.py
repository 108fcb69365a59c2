"""PNG, JPEG, TIFF and MedMNIST files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image


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
