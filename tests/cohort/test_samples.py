"""Samples: geometry of slices and crops, intensities, padding, cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.cohort import Cohort, View, catalog, rendering
from medssl.cohort.arrays import content_hash, write_array
from medssl.cohort.samples import make_samples
from medssl.errors import UserError


def add(cohort: Cohort, array: np.ndarray, padding: np.ndarray | None = None, **changes) -> str:
    """Put an array into a cohort the short way."""
    scan = f"s{content_hash(array)[:16]}"
    write_array(cohort.path, scan, array)
    if padding is not None:
        write_array(cohort.path, scan, padding, "padding")
    flat = array.ndim == 2 or changes.get("kind") == "colour"
    affine = np.eye(4)
    spacing = changes.get("spacing")
    if spacing and not flat:
        affine = np.diag([*spacing[::-1], 1.0])
    row = {
        "scan": scan, "patient": f"p{scan}", "grp": None, "exam": f"e{scan}", "series": f"r{scan}", "modality": "MR",
        "vendor": "GE", "body_part": "head", "kind": "image" if flat else "volume", "shape": list(array.shape),
        "dtype": array.dtype.name, "spacing": None, "affine": None if flat else affine.tolist(), "unit": "a.u.",
        "percentiles": {"0.5": float(array.min()), "99.5": float(array.max())}, "content_hash": content_hash(array),
        "source": "", "patient_from": "file",
    } | changes  # fmt: skip
    with catalog.writing(cohort.path) as db:
        catalog.put_scan(db, row)
    return scan


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort.create(tmp_path / "cohort")


def only(cohort: Cohort, **view) -> np.ndarray:
    samples = Cohort.open(cohort.path).samples(View(**view))
    assert samples.images.dtype == np.uint8
    return np.asarray(samples.images[0])


def test_eight_bit_images_keep_their_range(cohort) -> None:
    array = np.tile(np.arange(100, 164, dtype=np.uint8), (64, 1))
    add(cohort, array)
    np.testing.assert_array_equal(only(cohort, size=64)[0], array)


def test_hounsfield_units_are_windowed(cohort) -> None:
    array = np.full((16, 16), -1000, np.int16)
    array[:, 8:] = 40
    array[8:, 8:] = 3000
    add(cohort, array, unit="HU")
    image = only(cohort, size=16)[0]
    assert (image[0, 0], image[0, 12], image[12, 12]) == (0, round(200 / 400 * 255), 255)


def test_other_scans_are_scaled_by_percentiles_and_padding_is_black(cohort) -> None:
    array = np.full((16, 16), 500, np.uint16)
    array[:, :8] = 900
    padding = np.zeros((16, 16), bool)
    padding[:, :2] = True
    add(cohort, array, padding, percentiles={"0.5": 100.0, "99.5": 900.0})
    image = only(cohort, size=16)[0]
    assert (image[0, 0], image[0, 5], image[0, 12]) == (0, 255, round(400 / 800 * 255))


def test_percentiles_that_nobody_computed(cohort) -> None:
    add(cohort, np.zeros((16, 16), np.uint16))
    with pytest.raises(UserError, match="percentiles"):
        only(cohort, percentiles=(3, 97))


@pytest.mark.parametrize(
    ("fit", "rows", "columns"), [("crop", (0, 16), (0, 16)), ("stretch", (0, 16), (4, 12)), ("pad", (4, 12), (4, 12))]
)
def test_fit(cohort, fit, rows, columns) -> None:
    """A picture of 16 x 32 whose middle 16 columns are white: where is white after fitting to 16 x 16?"""
    array = np.zeros((16, 32), np.uint8)
    array[:, 8:24] = 255
    add(cohort, array)
    white = np.argwhere(only(cohort, size=16, fit=fit)[0] > 128)
    assert (white.min(0)[0], white.max(0)[0] + 1) == rows and (white.min(0)[1], white.max(0)[1] + 1) == columns


def test_shrinking_averages(cohort) -> None:
    array = np.zeros((64, 64), np.uint8)
    array[:, ::2] = 200
    add(cohort, array)
    assert np.abs(only(cohort, size=16)[0].astype(int) - 100)[2:-2, 2:-2].max() <= 6, "stripes must not alias"


def test_coronal_slices_of_thick_scans_are_not_squashed(cohort) -> None:
    """A ball of 20 mm radius in slices of 5 mm thickness must look round."""
    spacing = (5.0, 1.0, 1.0)
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((12, 60, 60), spacing, strict=True)), indexing="ij")
    ball = (((z - 27.5) ** 2 + (y - 30) ** 2 + (x - 30) ** 2) < 400).astype(np.uint8) * 200
    add(cohort, ball, spacing=list(spacing))
    for plane in ("axial", "coronal", "sagittal"):
        samples = Cohort.open(cohort.path).samples(View(size=60, plane=plane, slices=1))
        inside = samples.images[0, 0] > 100
        height, width = np.ptp(np.argwhere(inside), axis=0)
        assert height == pytest.approx(width, abs=5) and 34 <= width <= 42, plane


def test_slices_are_upright(cohort) -> None:
    """One bright voxel at the patient's front, right and top: where do the planes show it?"""
    array = np.zeros((32, 32, 32), np.uint8)
    array[28, 27, 30] = 250  # z up, y to the front, x to the right
    add(cohort, array, spacing=[1.0, 1.0, 1.0])
    expected = {"axial": (28, (4, 1)), "coronal": (27, (3, 1)), "sagittal": (30, (3, 4))}
    for plane, (index, place) in expected.items():
        images = Cohort.open(cohort.path).samples(View(size=32, plane=plane)).images
        assert images.shape[0] == 32
        assert tuple(np.unravel_index(images[index, 0].argmax(), (32, 32))) == place, plane


def test_slices_are_spread_evenly_and_positions_are_in_mm(cohort) -> None:
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    affine[:3, 3] = [-5, -6, -100]
    add(cohort, np.zeros((20, 16, 16), np.uint8), spacing=[2.5, 1.0, 1.0], affine=affine.tolist())
    table = Cohort.open(cohort.path).samples(View(size=16, slices=4)).table
    assert list(table["slice"]) == [2, 7, 12, 17]
    np.testing.assert_allclose(table["position_mm"], [-95, -82.5, -70, -57.5])
    assert list(table.columns) == ["scan", "patient", "group", "exam", "slice", "position_mm"]


def test_spacing_in_mm(cohort) -> None:
    """A square of 20 mm, in pixels of 2 mm, is 10 pixels wide, whatever the resolution and the field of view."""
    for n, step in ((52, 1.0), (200, 0.5)):
        array = np.zeros((n, n), np.uint8)
        middle, half = n // 2, int(10 / step)
        array[middle - half : middle + half, middle - half : middle + half] = 240
        add(cohort, array, spacing=[step, step])
    images = Cohort.open(cohort.path).samples(View(size=32, spacing=2.0)).images
    for image in images:
        inside = image[0] > 120
        assert inside.sum() == 100
    assert any(image[0, 0].max() == 0 for image in images)


def test_spacing_in_mm_of_scans_without(cohort) -> None:
    add(cohort, np.zeros((16, 16), np.uint8))
    with pytest.raises(UserError, match="1 of 1 scans have no pixel spacing"):
        only(cohort, spacing=1.0)


def test_colour(cohort) -> None:
    array = np.zeros((3, 16, 16), np.uint8)
    array[0] = 200
    add(cohort, array, kind="colour")
    assert only(cohort, size=16, channels=3)[:, 0, 0].tolist() == [200, 0, 0]
    assert only(cohort, size=16)[0, 0, 0] == round(0.299 * 200)


def test_volumes_whole(cohort) -> None:
    array = np.zeros((10, 40, 40), np.uint8)
    array[5:, :20] = 200
    add(cohort, array, spacing=[4.0, 1.0, 1.0])
    images = Cohort.open(cohort.path).samples(View(size=20, spatial_dims=3)).images
    assert images.shape == (1, 1, 20, 20, 20)
    assert images[0, 0, 12:, :8].min() > 250 and images[0, 0, :8].max() < 5 and images[0, 0, :, 12:].max() < 5


def test_volumes_of_pictures(cohort) -> None:
    add(cohort, np.zeros((16, 16), np.uint8))
    with pytest.raises(UserError, match="are 2-D"):
        only(cohort, spatial_dims=3)


def test_samples_are_made_once(cohort, monkeypatch) -> None:
    for seed in range(5):
        add(cohort, np.random.default_rng(seed).integers(0, 255, (20, 20)).astype(np.uint8))
    first = Cohort.open(cohort.path).samples(View(size=16))
    monkeypatch.setattr(rendering, "render_image", lambda *a: pytest.fail("the cache was not used"))
    again = Cohort.open(cohort.path).samples(View(size=16))
    assert again.key == first.key and isinstance(again.images, np.memmap) and not again.images.flags.writeable
    np.testing.assert_array_equal(again.images, first.images)
    assert list(first.table["scan"]) == list(Cohort.open(cohort.path).scans()["scan"])
    monkeypatch.undo()
    other = Cohort.open(cohort.path).samples(View(size=24))
    assert other.key != first.key
    add(cohort, np.ones((20, 20), np.uint8))
    assert Cohort.open(cohort.path).samples(View(size=16)).key != first.key


def test_a_run_that_fails_leaves_nothing(cohort, monkeypatch) -> None:
    add(cohort, np.zeros((20, 20), np.uint8))
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(rendering, "render_image", lambda *a: 1 / 0)
        make_samples(cohort.path, cohort.scans(), View(size=16))
    assert not list((cohort.path / "samples").iterdir())
    assert len(Cohort.open(cohort.path).samples(View(size=16))) == 1


def test_an_empty_cohort(cohort) -> None:
    with pytest.raises(UserError, match="no scans"):
        cohort.samples()


@pytest.fixture
def colour_volume(cohort) -> Cohort:
    """Red on top (z), green in front (y), blue at the right (x), one unit each; a hidden corner."""
    array = np.zeros((3, 12, 16, 20), np.uint8)
    array[0, 6:] = 200
    array[1, :, 8:] = 100
    array[2, :, :, 10:] = 50
    padding = np.zeros(array.shape[1:], bool)
    padding[:, :2, :2] = True
    affine = np.diag([1.0, 1.0, 2.0, 1.0]).tolist()
    add(cohort, array, padding, kind="colour_volume", spacing=[2.0, 1.0, 1.0], affine=affine)
    return Cohort.open(cohort.path)


@pytest.mark.parametrize(("plane", "count"), [("axial", 12), ("coronal", 16), ("sagittal", 20)])
def test_slices_of_colour_volumes(colour_volume, plane, count) -> None:
    """Every slice equals the same slice of each channel, as a gray volume of its own would show it."""
    array = colour_volume.array(colour_volume.scans()["scan"][0])
    samples = colour_volume.samples(View(size=16, plane=plane, channels=3, fit="stretch"))
    assert samples.images.shape == (count, 3, 16, 16)
    row = colour_volume.scans().to_dict("records")[0]
    padding = colour_volume.padding(row["scan"])
    view = View(size=16, plane=plane, fit="stretch", intensity="range")
    for index in (0, count // 2, count - 1):
        for channel in range(3):
            expected = rendering.render_slice(array[channel], row, padding, index, view)[0]
            np.testing.assert_array_equal(samples.images[index, channel], expected)
    np.testing.assert_allclose(np.diff(samples.table["position_mm"]), 2.0 if plane == "axial" else 1.0)


def test_colour_volumes_in_gray_and_in_3d(colour_volume) -> None:
    gray = colour_volume.samples(View(size=16, fit="stretch")).images
    assert gray.shape == (12, 1, 16, 16)
    assert gray[11, 0, 1, 1] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50), "top, front, patient's right"
    assert gray[0, 0, 15, 15] == 0 and gray[11, 0, 15, 15] == 0 and gray[11, 0, 12, 12] == round(0.299 * 200)
    whole = colour_volume.samples(View(size=16, spatial_dims=3, channels=3, fit="stretch")).images
    assert whole.shape == (1, 3, 16, 16, 16)
    assert whole[0, :, 15, 15, 15].tolist() == [200, 100, 50] and whole[0, :, 15, 8, 3].tolist()[0] == 200
    assert whole[0, :, 0, 0, 0].tolist() == [0, 0, 0]
    assert colour_volume.samples(View(size=16, spatial_dims=3, fit="stretch")).images[0, 0, 15, 15, 15] == 124
    assert len(colour_volume.near_duplicates()) == 0


def test_patches_of_a_volume_lie_inside_it_and_know_where(cohort) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (20, 32, 48), dtype=np.uint8)
    add(cohort, volume, spacing=[2.0, 1.0, 1.0], percentiles={"0.5": 0.0, "99.5": 255.0})
    view = View(size=16, spatial_dims=3, spacing=1.0, patches=12, intensity="range")
    samples = Cohort.open(cohort.path).samples(view)
    assert samples.images.shape == (12, 1, 16, 16, 16) and samples.table["slice"].tolist() == list(range(12))
    centres = rendering.patch_centres(volume.shape, [2.0, 1.0, 1.0], view)
    assert (centres.min(0) == [4, 8, 8]).all() and (centres.max(0) == [16, 24, 40]).all()
    first = np.asarray(samples.images[0, 0]).astype(float)
    expected = volume[:8, :16, :16].astype(float)
    assert np.abs(first.reshape(8, 2, 16, 16).mean(1) - expected).mean() < 20  # slices of 2 mm, twice each, blended
    assert samples.table["position_mm"].iloc[0] == pytest.approx(2 * (centres[0, 0] - 0.5))
    whole = Cohort.open(cohort.path).samples(View(size=16, spatial_dims=3, spacing=1.0, intensity="range"))
    assert len(whole) == 1
    small = Cohort.open(cohort.path).samples(view.model_copy(update={"size": 64}))
    assert len(small) == 1, "a volume no larger than a patch has one"


def test_patches_need_a_spacing() -> None:
    for bad in ({"patches": 2}, {"patches": 2, "spatial_dims": 3}):
        with pytest.raises(UserError, match="spacing in mm"):
            View(**bad)
