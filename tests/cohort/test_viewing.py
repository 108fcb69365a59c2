"""The viewer: slices, windows and masks as pictures; small pictures are made once."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from synthetic import write_cohort

from medssl.cohort import browse, viewing
from medssl.cohort.browse import Filter
from medssl.errors import UserError


@pytest.fixture
def cohort(tmp_path):
    return write_cohort(tmp_path, volumes=1, images=2)


@pytest.fixture
def volume(cohort):
    return browse.page(cohort, Filter(modality="CT"))[0]


def gray(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def test_a_slice_is_windowed_and_the_right_side_up(cohort, volume) -> None:
    """24 x 20 mm to 24 x 24 pixels: columns 2 to 22 hold the slice, with anterior (the last row) on top."""
    drawn = gray(viewing.picture(cohort, volume, 1, "axial", (-900.0, 900.0), size=24))
    expected = (cohort.array(volume["scan"])[1].astype(float)[::-1, ::-1] + 900) * 255 / 1800
    np.testing.assert_allclose(drawn[:, 2:22], expected, atol=1)
    assert not drawn[:, :2].any() and not drawn[:, 22:].any()


@pytest.mark.parametrize(("plane", "count"), [("axial", 6), ("coronal", 24), ("sagittal", 20)])
def test_each_plane_has_its_slices(cohort, volume, plane, count) -> None:
    assert viewing.slices(volume, plane) == count
    assert viewing.picture(cohort, volume, count - 1, plane, size=32).size == (32, 32)
    with pytest.raises(UserError, match=f"{count} {plane} slices"):
        viewing.picture(cohort, volume, count, plane)


def test_the_mask_is_laid_over_its_own_slices_alone(cohort, volume) -> None:
    plain, masked = (np.asarray(viewing.picture(cohort, volume, 2, mask=on, size=24)) for on in (False, True))
    changed = (plain != masked).any(-1)
    assert changed[8:16, 8:16].sum() > 50 and changed.sum() == changed[8:16, 8:16].sum()
    assert (masked[8, 8:16] == viewing.MASK_COLOURS[0]).all(), "the rim is opaque"
    assert viewing.mask_values(cohort, volume, 2, "axial") == {1: viewing.MASK_COLOURS[0]}
    without = [np.asarray(viewing.picture(cohort, volume, 0, mask=on, size=24)) for on in (False, True)]
    assert (without[0] == without[1]).all() and viewing.mask_values(cohort, volume, 0, "axial") == {}


def test_window_presets_fit_the_scan(cohort, volume) -> None:
    image = browse.page(cohort, Filter(modality="DX"))[0]
    assert viewing.windows(volume)["Lung"] == (-1350.0, 150.0)
    assert next(iter(viewing.windows(image).values())) == (0.0, 255.0) and "Lung" not in viewing.windows(image)
    measured = viewing.windows(volume | {"unit": "a.u.", "percentiles": {"0.5": 1.0, "99.5": 7.0}})
    assert measured == {"All values": (1.0, 7.0)}


def test_small_pictures_are_made_once_and_anew_for_another_content(cohort, volume, monkeypatch) -> None:
    first = viewing.thumbnail(cohort, volume)
    assert Image.open(io.BytesIO(first)).size == (viewing.SIDE, viewing.SIDE)
    monkeypatch.setattr(viewing, "picture", lambda *_, **__: pytest.fail("drawn again"))
    assert viewing.thumbnail(cohort, volume) == first
    with pytest.raises(pytest.fail.Exception):
        viewing.thumbnail(cohort, volume | {"content_hash": "f" * 64})


def test_a_veiled_picture_is_blurred(cohort) -> None:
    (row,) = browse.page(cohort, Filter(finding="burned_in_pixels"))
    sharp, veiled = (Image.open(io.BytesIO(viewing.thumbnail(cohort, row, on))) for on in (False, True))
    edges = [np.abs(np.diff(gray(image).astype(int), axis=1)).max() for image in (sharp, veiled)]
    assert edges[1] < edges[0] / 3


def test_a_cohort_that_may_only_be_read_shows_its_pictures(cohort, volume, monkeypatch) -> None:
    def refuse(path):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(viewing, "atomic", refuse)
    assert viewing.thumbnail(cohort, volume).startswith(b"\x89PNG")
