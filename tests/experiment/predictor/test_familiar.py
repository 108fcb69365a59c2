import numpy as np
import pytest

from medssl.experiment.predictor.familiar import Familiar, held_out_distances


def embeddings(n, seed=0, width=64):
    """Normal in 5 directions of 64, with a little noise in all."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(5, width))
    return rng.normal(size=(n, 5)) @ directions + 0.1 * rng.normal(size=(n, width))


def test_the_distance_is_mahalanobis_of_probabilistic_pca():
    x = embeddings(80)
    familiar = Familiar.fit(x)
    standard = (x - x.mean(0)) / x.std(0)
    basis, variance = familiar.basis.numpy().astype(float), familiar.variance.numpy().astype(float)
    noise = float(familiar.noise)
    covariance = basis.T @ np.diag(variance - noise) @ basis + noise * np.eye(64)
    expected = np.sqrt(np.einsum("nd,de,ne->n", standard, np.linalg.inv(covariance), standard))
    assert familiar.distances(x) == pytest.approx(expected, rel=1e-3)


def test_strangers_are_further_out_than_the_percentile_and_kin_are_not():
    x, patients = embeddings(400), np.repeat(np.arange(200), 2)
    limit = np.quantile(held_out_distances(x, patients), 0.99)
    familiar = Familiar.fit(x)
    assert (familiar.distances(embeddings(400, seed=1)) > limit).mean() < 0.03
    off_the_plane = embeddings(50, seed=2) + np.random.default_rng(3).normal(size=(50, 64))
    assert (familiar.distances(off_the_plane) > limit).all()
    assert (familiar.distances(4 * embeddings(50, seed=4)) > limit).mean() > 0.3


def test_units_of_one_patient_are_held_out_together():
    """What a patient's other unit looks like does not decide how far out a unit is."""
    x, patients = embeddings(60), np.repeat(np.arange(30), 2)
    moved = x.copy()
    moved[0] += 10
    before, after = held_out_distances(x, patients), held_out_distances(moved, patients)
    assert after[1] == before[1] and after[0] > before[0]
    assert (after[patients != 0] != before[patients != 0]).any()


def test_a_feature_that_never_moved_is_not_divided_by():
    x = embeddings(60)
    x[:, 7] = 0
    moved = x[:5].copy()
    moved[:, 7] = 1e-6
    familiar = Familiar.fit(x)
    assert familiar.distances(moved) == pytest.approx(familiar.distances(x[:5]), rel=1e-2)
