"""Where scans lie to each other: principal axes, the map, neighbours, clusters."""

from __future__ import annotations

import numpy as np

from medssl.errors import UserError

AXES = 256  # leading principal axes on which everything here is computed
FITTED_ON = 20_000  # scans that k-means is fitted to


def principal(features: np.ndarray, axes: int = AXES) -> np.ndarray:
    """Standardised features (N, D) along their principal axes, (N, min(axes, D)) float32, the longest first.

    Each axis points to where its largest entry is positive, so that a map does not turn over from run to run.
    """
    x = np.asarray(features, np.float32)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    _, vectors = np.linalg.eigh((x.T @ x).astype(np.float64))
    vectors = vectors[:, ::-1][:, :axes]
    vectors = vectors * np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0))
    return x @ vectors.astype(np.float32)


def project(reduced: np.ndarray, how: str = "pca", seed: int = 0) -> np.ndarray:
    """(N, 2): the map.

    Args:
        reduced: of `principal`.
        how: `pca`, or `umap` (McInnes 2018, arXiv:1802.03426) at its own defaults.

    Raises:
        UserError: UMAP is not installed, or there are too few scans for it.
    """
    if how == "pca":
        return np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - reduced.shape[1]))))
    try:
        import umap
    except ImportError:
        raise UserError("UMAP is not installed", "map", "Install it with: `pip install 'medssl[umap]'`") from None
    neighbours = 15
    if len(reduced) <= neighbours:
        raise UserError(f"UMAP needs more than {neighbours} scans, and there are {len(reduced)}", "map", "Take PCA.")
    return np.asarray(umap.UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(reduced), np.float32)


def nearest(reduced: np.ndarray, place: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the scans most like one of them, and their cosine similarity, the most similar first."""
    similarity = unit_length(reduced) @ unit_length(reduced[place : place + 1])[0]
    similarity[place] = -np.inf
    count = min(count, len(reduced) - 1)
    found = np.argpartition(-similarity, count - 1)[:count] if count else np.empty(0, int)
    found = found[np.argsort(-similarity[found], kind="stable")]
    return found, similarity[found]


def clusters(reduced: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(N,) number of the cluster of each scan by k-means, the largest cluster 0."""
    from sklearn.cluster import KMeans

    chance = np.random.default_rng(seed)
    some = reduced if len(reduced) <= FITTED_ON else reduced[chance.choice(len(reduced), FITTED_ON, replace=False)]
    found = KMeans(min(count, len(reduced)), n_init=4, random_state=seed).fit(some).predict(reduced)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order)[found]


def drawn(count: int, most: int, seed: int = 0) -> np.ndarray:
    """Sorted numbers of at most `most` of `count` scans, by chance."""
    return (
        np.arange(count) if count <= most else np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    )


def unit_length(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length 1."""
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12)
