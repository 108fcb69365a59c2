import numpy as np
import pytest

from medssl.errors import UserError
from medssl.transfer import pixel_features, unit_means
from medssl.transfer.features import pool_scale


def test_pixels_are_block_means():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64)).astype(np.uint8)
    features = pixel_features(images)
    assert features.shape == (3, 256)
    assert features[1, 16 + 2] == pytest.approx(images[1, 0, 4:8, 8:12].mean() / 255, abs=1e-6)
    with pytest.raises(UserError, match="16 divides"):
        pixel_features(images[:, :, :60])


def test_unit_means_leave_unlabeled_samples_out():
    features = np.array([[1.0], [3.0], [9.0], [5.0]])
    assert unit_means(features, np.array([0, 0, -1, 1]), 2).tolist() == [[2.0], [5.0]]
    with pytest.raises(UserError, match="1 labeled unit"):
        unit_means(features, np.array([0, 0, -1, 0]), 2)


def test_the_pool_sets_mean_and_spread_and_other_units_do_not():
    features = np.array([[1.0, 4.0], [3.0, 8.0], [100.0, 0.0]])
    mean, std = pool_scale(features, np.array([0, 1]))
    scaled = (features - mean) / std
    assert scaled[:2] == pytest.approx(np.array([[-1.0, -1.0], [1.0, 1.0]]), abs=1e-5)
    assert scaled[2] == pytest.approx([98, -3], abs=1e-3)


def test_volumes_have_no_raw_pixels():
    with pytest.raises(UserError, match=r"these are volumes(.|\n)*radiomics"):
        pixel_features(np.zeros((1, 1, 16, 16, 16), np.uint8))
