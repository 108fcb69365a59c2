"""Views of several channels: contrasts of an exam, windows of a CT."""

import numpy as np
import pytest
from test_samples import add

from medssl.cohort import Cohort, View
from medssl.cohort.channels import unclear_exams
from medssl.errors import UserError

T1_T2 = [{"bids_suffix": "T1w"}, {"bids_suffix": "T2w"}]


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    return Cohort.create(tmp_path / "cohort")


def volume(seed, shape=(4, 16, 16)):
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def exam(cohort, name, seed, suffixes=("T2w", "T1w"), **changes):
    for number, suffix in enumerate(suffixes):
        own = {"exam": name, "patient": f"p{name}", "attributes": {"bids_suffix": suffix}, "spacing": [1.0, 1.0, 1.0]}
        add(cohort, volume(10 * seed + number, changes.get("shape", (4, 16, 16))), **own | changes)


def samples(cohort, **view):
    return Cohort.open(cohort.path).samples(View(size=16, **view))


def test_contrasts_of_an_exam_are_channels_in_the_named_order(cohort) -> None:
    for seed in range(3):
        exam(cohort, f"e{seed}", seed)
    both = samples(cohort, contrasts=T1_T2)
    assert both.view.channels == 2 and both.images.shape == (12, 2, 16, 16)
    scans = Cohort.open(cohort.path).scans()
    suffix = dict(zip(scans["scan"], scans["attributes"].map(lambda a: a["bids_suffix"]), strict=True))
    assert set(both.table["scan"].map(suffix)) == {"T1w"} and both.table["exam"].nunique() == 3
    single = samples(cohort)
    for row, (scan, number, owner) in enumerate(both.table[["scan", "slice", "exam"]].itertuples(index=False)):
        alike = single.table[(single.table["exam"] == owner) & (single.table["slice"] == number)]
        for place, own in zip(alike.index, alike["scan"], strict=True):
            np.testing.assert_array_equal(both.images[row, int(own != scan)], single.images[place, 0])
    assert samples(cohort, contrasts=T1_T2[::-1]).key != both.key


def test_contrasts_are_channels_of_patches_too(cohort) -> None:
    exam(cohort, "e0", 0, shape=(16, 16, 16))
    assert samples(cohort, contrasts=T1_T2, spatial_dims=3).images.shape == (1, 2, 16, 16, 16)


def test_exams_that_lack_a_contrast_give_no_samples(cohort, capsys) -> None:
    exam(cohort, "e0", 0)
    exam(cohort, "e1", 1, suffixes=("T1w",))
    assert samples(cohort, contrasts=T1_T2).table["exam"].unique().tolist() == ["e0"]
    assert "1 of 2 exams" in capsys.readouterr().err
    with pytest.raises(UserError, match="none of 2 exams"):
        samples(cohort, contrasts=[{"bids_suffix": "T1w"}, {"bids_suffix": "FLAIR"}])


def test_what_is_not_one_place_is_refused(cohort) -> None:
    exam(cohort, "e0", 0, suffixes=("T1w", "T2w"))
    exam(cohort, "e1", 1, suffixes=("T1w",))
    moved = np.eye(4)
    moved[0, 3] = 5
    exam(cohort, "e1", 2, suffixes=("T2w",), affine=moved.tolist())
    with pytest.raises(UserError, match="in 1 of 2 exams the contrasts lie on different grids"):
        samples(cohort, contrasts=T1_T2)
    exam(cohort, "e0", 3, suffixes=("T2w",))
    with pytest.raises(UserError, match="several scans fit"):
        samples(cohort, contrasts=T1_T2)
    with pytest.raises(UserError, match="bids_suffix"):
        samples(cohort, contrasts=[{"bids_sufix": "T1w"}, {"bids_suffix": "T2w"}])


def test_windows_of_a_ct_are_channels(cohort) -> None:
    array = np.full((2, 16, 16), -1000, np.int16)
    array[:, :8] = -500
    array[:, 8:, 8:] = 40
    add(cohort, array, unit="HU", modality="CT")
    found = samples(cohort, windows=[(-1000, -200), (-160, 240)])
    assert found.images.shape == (2, 2, 16, 16)
    for channel, window in enumerate([(-1000, -200), (-160, 240)]):
        alone = samples(cohort, intensity="window", window=window)
        np.testing.assert_array_equal(found.images[:, channel], alone.images[:, 0])
    assert len(np.unique(found.images[:, 0])) == 3 and len(np.unique(found.images[:, 1])) == 2


def test_exams_that_would_spoil_all_are_named(cohort) -> None:
    exam(cohort, "good", 0)
    exam(cohort, "twice", 1, ("T1w", "T2w", "T2w"))
    exam(cohort, "lacks", 2, ("T1w",))
    exam(cohort, "moved", 3, ("T1w",))
    exam(cohort, "moved", 4, ("T2w",), spacing=[2.0, 1.0, 1.0])
    rows = cohort.scans().to_dict("records")
    assert unclear_exams(rows, View(contrasts=T1_T2)) == {"twice", "moved"} and not unclear_exams(rows, View())


def test_a_view_says_what_its_channels_are(cohort) -> None:
    add(cohort, volume(0))
    assert View(channels=3).colour and not View().colour
    assert not View(windows=[(0, 1), (1, 2), (2, 3)]).colour
    stored = View(contrasts=T1_T2).model_dump(mode="json")
    assert View(**stored) == View(contrasts=T1_T2) and stored["channels"] == 2
    with pytest.raises(UserError, match="does not say what they show"):
        samples(cohort, channels=2)
    for wrong in (
        {"contrasts": T1_T2, "windows": [(0, 1), (1, 2)]},
        {"contrasts": [T1_T2[0], T1_T2[0]]},
        {"contrasts": T1_T2, "channels": 3},
        {"windows": [(0, 1), (2, 1)]},
        {"intensity": "window", "window": (240, -160)},
        {"percentiles": (99.5, 0.5)},
    ):
        with pytest.raises(UserError):
            View(**wrong)
