"""scikit-image and scipy are the oracles; what they do not have is counted by hand."""

import numpy as np
import pytest
from scipy import stats
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from medssl.transfer import HANDCRAFTED
from medssl.transfer.radiomics import (
    LEVELS,
    cooccurrence,
    cooccurrence_features,
    features_by_name,
    first_order,
    local_patterns,
    patterns,
    radiomics_features,
    textures,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 24, 20)).astype(np.uint8)
STEPS = [(0, 1), (1, 1), (1, 0), (1, -1)]  # scikit-image's angles of 0, 45, 90 and 135 degrees


def levels(images):
    return images.astype(int) * LEVELS // 256


def test_first_order_is_what_scipy_computes():
    flat = IMAGES.reshape(5, -1)
    found = first_order(flat, levels(flat))
    x = flat / 255
    assert found["mean"] == pytest.approx(x.mean(1)) and found["variance"] == pytest.approx(x.var(1))
    assert found["skewness"] == pytest.approx(stats.skew(x, axis=1))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(x, axis=1))
    assert found["interquartile range"] == pytest.approx(stats.iqr(x, axis=1))
    counts = np.stack([np.bincount(row, minlength=LEVELS) for row in levels(flat)])
    assert found["histogram entropy"] == pytest.approx(stats.entropy(counts, base=2, axis=1))
    within = [row[(row >= a) & (row <= b)] for row, a, b in zip(x, *np.percentile(x, [10, 90], axis=1), strict=True)]
    assert found["robust mean absolute deviation"] == pytest.approx([np.abs(r - r.mean()).mean() for r in within])


@pytest.mark.parametrize("place", range(4))
def test_cooccurrence_is_scikit_images(place):
    angle = place * np.pi / 4
    wanted = np.stack(
        [graycomatrix(one.astype(np.uint8), [1], [angle], LEVELS, True, True)[..., 0, 0] for one in levels(IMAGES)]
    )
    found = cooccurrence(levels(IMAGES), STEPS[place])
    assert found == pytest.approx(wanted)
    features = cooccurrence_features(found)
    pairs = {
        "contrast": "contrast",
        "difference average": "dissimilarity",
        "inverse difference moment": "homogeneity",
        "angular second moment": "ASM",
        "correlation": "correlation",
        "joint entropy": "entropy",
    }
    for ours, theirs in pairs.items():
        props = np.array([graycoprops(one[..., None, None], theirs)[0, 0] for one in wanted])
        scale = np.log(2) if theirs == "entropy" and props.max() < features[ours].max() * 0.8 else 1  # nats or bits
        assert features[ours] * scale == pytest.approx(props, rel=1e-6), ours


def test_the_other_features_follow_their_definitions():
    share = cooccurrence(levels(IMAGES), (0, 1))[:1]
    found = {name: value[0] for name, value in cooccurrence_features(share).items()}
    p, (i, j) = share[0], np.mgrid[1 : LEVELS + 1, 1 : LEVELS + 1]
    mean = (p * i).sum()
    assert found["joint average"] == pytest.approx(mean)
    assert found["autocorrelation"] == pytest.approx((p * i * j).sum())
    assert found["cluster shade"] == pytest.approx((p * (i + j - 2 * mean) ** 3).sum(), abs=1e-6)
    assert found["cluster prominence"] == pytest.approx((p * (i + j - 2 * mean) ** 4).sum())
    assert found["sum variance"] == pytest.approx((p * (i + j - 2 * mean) ** 2).sum())
    gap = (p * np.abs(i - j)).sum()
    assert found["difference variance"] == pytest.approx((p * (np.abs(i - j) - gap) ** 2).sum())
    product = np.outer(p.sum(1), p.sum(0))
    both, one = stats.entropy(p.ravel(), base=2), stats.entropy(p.sum(1), base=2)
    crossed = -(p * np.log2(np.where(p > 0, product, 1))).sum()
    assert found["information correlation 1"] == pytest.approx((both - crossed) / one)
    independent = stats.entropy(product.ravel(), base=2)
    assert found["information correlation 2"] == pytest.approx(np.sqrt(1 - np.exp(-2 * (independent - both))))


@pytest.mark.parametrize(("neighbours", "radius"), [(8, 1), (16, 2), (24, 3)])
def test_patterns_are_scikit_images_away_from_the_border(neighbours, radius):
    smooth = np.cumsum(RNG.integers(-9, 10, (30, 30)), 1) + 128  # no ties, which rounding would decide
    image = (smooth * 7 % 251).astype(np.uint8)
    inner = slice(radius, -radius)
    wanted = local_binary_pattern(image, neighbours, radius, "uniform")[inner, inner]
    found = patterns(image[None], neighbours, radius)[0]
    assert (found == wanted).mean() > 0.995 and len(np.unique(wanted)) > neighbours / 2


def test_a_flat_image_has_one_pattern_and_only_numbers():
    features = features_by_name(np.full((1, 16, 16), 90, np.uint8))
    assert all(np.isfinite(value).all() for value in features.values())
    assert features["pattern 8 of 8 at 1"][0] == 1 and features["kurtosis"][0] == 0
    assert features["correlation at 1"][0] == 1 and features["contrast at 4"][0] == 0


def test_a_turned_image_has_the_same_features():
    turned = features_by_name(np.rot90(IMAGES, axes=(1, 2)))
    for name, value in features_by_name(IMAGES).items():
        assert turned[name] == pytest.approx(value, abs=1e-6, rel=1e-6) or "pattern" in name
        assert np.abs(turned[name] - value).max() < 0.02  # of a circle between pixels, rounding decides a few ties


def test_a_volume_is_measured_in_all_thirteen_directions_and_three_planes():
    volume = np.zeros((1, 8, 12, 16), np.uint8)
    volume[:, ::2] = 255  # changes along the first axis alone
    contrast = textures(levels(volume), 1)
    assert contrast["contrast at 1"][0] == pytest.approx((LEVELS - 1) ** 2 * 9 / 13)
    assert contrast["contrast at 1, range"][0] == (LEVELS - 1) ** 2
    found = local_patterns(volume, 8, 1)
    assert found["pattern 8 of 8 at 1, across axis 0"][0] == 1  # flat in the plane
    assert found["pattern 8 of 8 at 1, across axis 1"][0] < 1


def test_channels_and_blocks_stand_side_by_side(monkeypatch):
    images = RNG.integers(0, 256, (7, 2, 16, 16)).astype(np.uint8)
    features = radiomics_features(images)
    assert features.shape == (7, 2 * 185) and features.dtype == np.float32 and np.isfinite(features).all()
    assert HANDCRAFTED["radiomics"](images[:, 1:]) == pytest.approx(features[:, 185:])
    monkeypatch.setattr("medssl.transfer.radiomics.AT_ONCE", 1)
    assert radiomics_features(images) == pytest.approx(features)
    volumes = RNG.integers(0, 256, (2, 1, 8, 8, 8)).astype(np.uint8)
    assert radiomics_features(volumes).shape == (2, 293) == (2, len(features_by_name(volumes[:, 0])))
