"""Pictures show what the encoder saw, larger, in the same place; heat and outlines lie where they belong."""

import io

import numpy as np
from PIL import Image
from synthetic_cohort import write_cohort, write_volumes

from medssl.config import View
from medssl.experiment import pictures


def shrunk(image, size):
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)).astype(float)


def test_an_image_is_the_sample_drawn_larger(tmp_path):
    cohort = write_cohort(tmp_path, scans=4)
    samples = cohort.samples(View(size=16))
    place = int(np.flatnonzero(samples.table["scan"] == "u001")[0])
    found = pictures.picture(cohort, samples, place, 64)
    assert found.shape == (64, 64) and found.dtype == np.uint8
    assert np.abs(shrunk(found, 16) - samples.images[place, 0]).mean() < 12
    other = pictures.picture(cohort, samples, (place + 1) % 4, 64)
    assert np.abs(shrunk(other, 16) - samples.images[place, 0]).mean() > 15


def test_with_a_spacing_in_mm_the_field_of_view_stays(tmp_path):
    cohort = write_cohort(tmp_path, scans=4)
    samples = cohort.samples(View(size=16, spacing=0.2))  # the middle 3.2 mm of 6.4
    place = int(np.flatnonzero(samples.table["scan"] == "u001")[0])
    found = pictures.picture(cohort, samples, place, 64)
    assert np.abs(shrunk(found, 16) - samples.images[place, 0]).mean() < 12


def test_a_slice_of_a_volume_and_the_middle_of_a_3d_sample(tmp_path):
    cohort = write_volumes(tmp_path)
    flat, deep = cohort.samples(View(size=16)), cohort.samples(View(size=16, spatial_dims=3))
    assert np.abs(pictures.picture(cohort, flat, 2, 16).astype(int) - flat.images[2, 0]).max() <= 1
    found = pictures.picture(cohort, deep, 0, 16)
    assert np.abs(found.astype(int) - deep.images[0, 0, 8, ::-1, ::-1]).max() <= 1
    assert pictures.outline(cohort, deep, 0) is None


def test_the_outline_runs_around_the_mask(tmp_path):
    cohort = write_cohort(tmp_path, scans=4)
    samples = cohort.samples(View(size=16))
    places = {s: n for n, s in enumerate(samples.table["scan"])}
    assert pictures.outline(cohort, samples, places["u000"]) is None
    edge = pictures.outline(cohort, samples, places["u001"], 320)  # ten pixels for each of the scan
    rows, columns = np.nonzero(cohort.mask("u001"))
    drawn_rows, drawn_columns = np.nonzero(edge)
    for drawn, real in ((drawn_rows, rows), (drawn_columns, columns)):
        assert abs(drawn.min() - 10 * real.min()) <= 6 and abs(drawn.max() - (10 * real.max() + 9)) <= 6
    assert not edge[int(10 * rows.mean() + 5), int(10 * columns.mean() + 5)]


def test_heat_is_orange_where_it_is_hot_and_nothing_elsewhere():
    heat = np.zeros((8, 8), np.float32)
    heat[2, 5] = 1
    image = np.full((64, 64), 100, np.uint8)
    shown = pictures.overlaid(image, heat)
    assert shown.shape == (64, 64, 3)
    hot = shown[20, 44].astype(int)
    assert hot[0] > 150 > hot[2] and hot[0] > hot[1] > hot[2]
    assert (shown[50, 10] == 100).all()
    volume = np.zeros((8, 8, 8), np.float32)
    volume[4, 2, 5] = 1  # the middle slice, which is shown turned upright
    assert pictures.overlaid(image, volume)[44, 20, 0] > 150


def test_an_outline_is_drawn_and_png_is_whole():
    edge = np.zeros((32, 32), bool)
    edge[3] = True
    shown = pictures.overlaid(np.zeros((32, 32), np.uint8), None, edge)
    assert (shown[3] == pictures.OUTLINE).all() and not shown[4:].any()
    again = np.asarray(Image.open(io.BytesIO(pictures.to_png(shown))))
    assert (again == shown).all()
