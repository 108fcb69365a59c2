"""First-order and texture features of images and volumes, without any learning: what radiomics measures.

A baseline that deep encoders often fail to beat on small cohorts. Measured is the whole sample as its View draws it
(there is no segmentation, so there are no shape features), each channel by itself, many samples at once. Names are
those of the Image Biomarker Standardisation Initiative (IBSI reference manual, arXiv:1612.07003) where a feature is one
of theirs; gray levels are discretised into 32 bins of equal width over the View's range ("fixed bin number").

- First order (IBSI 3.3 and 3.4): statistics of the intensities and of their histogram.
- Gray-level co-occurrence (Haralick 1973, "Textural features for image classification"; IBSI 3.6): symmetric matrices
  at distances of 1, 2 and 4 samples, of all 4 directions of an image or 13 of a volume; mean and range over
  directions, as Haralick takes them, so that a turned image has much the same features.
- Local binary patterns (Ojala 2002, "Multiresolution gray-scale and rotation invariant texture classification"):
  histograms of the rotation-invariant uniform patterns of 8, 16 and 24 neighbours at radii of 1, 2 and 3 samples; of a
  volume in its three orthogonal planes (LBP-TOP, Zhao and Pietikainen 2007).
"""

from __future__ import annotations

import itertools

import numpy as np

LEVELS = 32
DISTANCES = (1, 2, 4)
CIRCLES = ((8, 1), (16, 2), (24, 3))  # neighbours, radius
AT_ONCE = 2**19  # voxels: what is computed from them stays in the processor's cache
TIE = 1e-3  # of a gray level of 255: an interpolated value this far below the centre counts as equal to it

Features = dict[str, np.ndarray]


def radiomics_features(images: np.ndarray) -> np.ndarray:
    """All features of every sample, channel after channel.

    Args:
        images: (N, C, *spatial) uint8, two or three spatial axes of at least 8 samples.

    Returns:
        (N, C * F) float32; F is 185 in 2-D and 293 in 3-D.
    """
    count, channels, *spatial = images.shape
    step = max(1, AT_ONCE // (channels * int(np.prod(spatial))))
    rows = []
    for start in range(0, count, step):  # the samples are memory-mapped and may be large
        block = np.asarray(images[start : start + step])
        found = features_by_name(block.reshape(-1, *spatial))
        rows.append(np.stack(list(found.values()), 1).reshape(len(block), -1))
    return np.concatenate(rows).astype(np.float32)


def features_by_name(samples: np.ndarray) -> Features:
    """Every feature (N,) of samples (N, *spatial) uint8, in the order of `radiomics_features`."""
    levels = (samples.astype(np.int64) * LEVELS) >> 8
    return {
        **first_order(samples.reshape(len(samples), -1), levels.reshape(len(samples), -1)),
        **{name: value for distance in DISTANCES for name, value in textures(levels, distance).items()},
        **{name: value for circle in CIRCLES for name, value in local_patterns(samples, *circle).items()},
    }


def first_order(samples: np.ndarray, levels: np.ndarray) -> Features:
    """Statistics of the intensities, in [0, 1], and of their histogram.

    Args:
        samples: (N, V) uint8; `levels`: (N, V) their gray levels from 0.
    """
    x = samples.astype(np.float64) / 255
    low, first, median, third, high = np.percentile(x, [10, 25, 50, 75, 90], axis=1)
    mean = x.mean(1)
    apart = x - mean[:, None]
    variance = (apart**2).mean(1)
    spread = np.ptp(x, 1)
    scale = np.where(spread > 0, variance, 1)
    middle = (x >= low[:, None]) & (x <= high[:, None])
    kept = middle.sum(1)
    centre = (x * middle).sum(1) / kept
    histogram = _histogram(levels, LEVELS)
    return {
        "mean": mean,
        "variance": variance,
        "skewness": (apart**3).mean(1) / scale**1.5,
        "kurtosis": np.where(spread > 0, (apart**4).mean(1) / scale**2 - 3, 0),
        "median": median,
        "minimum": x.min(1),
        "10th percentile": low,
        "90th percentile": high,
        "maximum": x.max(1),
        "interquartile range": third - first,
        "range": spread,
        "mean absolute deviation": np.abs(apart).mean(1),
        "robust mean absolute deviation": (np.abs(x - centre[:, None]) * middle).sum(1) / kept,
        "median absolute deviation": np.abs(x - median[:, None]).mean(1),
        "root mean square": np.sqrt((x**2).mean(1)),
        "histogram entropy": _entropy(histogram),
        "histogram uniformity": (histogram**2).sum(1),
    }


def textures(levels: np.ndarray, distance: int) -> Features:
    """Mean and range over the directions of all co-occurrence features.

    Args:
        levels: (N, *spatial) gray levels from 0.
        distance: samples between the two of a pair (Chebyshev's: a diagonal step is one step).
    """
    directions = [d for d in itertools.product((-1, 0, 1), repeat=levels.ndim - 1) if d > (0,) * len(d)]
    steps = [tuple(distance * part for part in direction) for direction in directions]
    found = [cooccurrence_features(cooccurrence(levels, step)) for step in steps]
    out: Features = {}
    for name in found[0]:
        values = np.stack([one[name] for one in found])
        out[f"{name} at {distance}"] = values.mean(0)
        out[f"{name} at {distance}, range"] = np.ptp(values, 0)
    return out


def cooccurrence(levels: np.ndarray, step: tuple[int, ...]) -> np.ndarray:
    """(N, 32, 32) shares of the pairs of gray levels that lie one `step` apart, either way round."""
    here = tuple(slice(max(0, -s), size - max(0, s)) for s, size in zip(step, levels.shape[1:], strict=True))
    there = tuple(slice(max(0, s), size - max(0, -s)) for s, size in zip(step, levels.shape[1:], strict=True))
    pairs = (levels[:, *here] * LEVELS + levels[:, *there]).reshape(len(levels), -1)
    share = _histogram(pairs, LEVELS**2).reshape(-1, LEVELS, LEVELS)
    return (share + share.transpose(0, 2, 1)) / 2


def cooccurrence_features(share: np.ndarray) -> Features:
    """Features (N,) of co-occurrence matrices (N, 32, 32); gray levels count from 1, as IBSI's do."""
    level = np.arange(1, LEVELS + 1)
    i, j = (grid.ravel() for grid in np.meshgrid(level, level, indexing="ij"))
    gap, p = np.abs(i - j), share.reshape(len(share), -1)
    marginal = share.sum(2)
    average = marginal @ level
    variance = (marginal * (level - average[:, None]) ** 2).sum(1)
    differences = p @ np.eye(LEVELS)[gap]  # (N, 32): shares of the differences 0 to 31
    sums = p @ np.eye(2 * LEVELS - 1)[i + j - 2]  # (N, 63): of the sums 2 to 64
    total = np.arange(2, 2 * LEVELS + 1) - 2 * average[:, None]
    difference_average = differences @ np.arange(LEVELS)
    spread = np.arange(LEVELS) - difference_average[:, None]
    entropy, entropy_of_one = _entropy(p), _entropy(marginal)
    apart = np.where(entropy_of_one > 0, entropy_of_one, 1)
    covariance = p @ (i * j) - average**2
    return {
        "joint maximum": p.max(1),
        "joint average": average,
        "joint variance": variance,
        "joint entropy": entropy,
        "difference average": difference_average,
        "difference variance": (differences * spread**2).sum(1),
        "difference entropy": _entropy(differences),
        "sum variance": (sums * total**2).sum(1),
        "sum entropy": _entropy(sums),
        "angular second moment": (p**2).sum(1),
        "contrast": p @ gap**2,
        "inverse difference": p @ (1 / (1 + gap)),
        "inverse difference moment": p @ (1 / (1 + gap**2)),
        "correlation": np.where(variance > 1e-12, covariance / np.maximum(variance, 1e-12), 1),
        "autocorrelation": p @ (i * j),
        "cluster shade": (sums * total**3).sum(1),
        "cluster prominence": (sums * total**4).sum(1),
        # the marginals' product has twice the entropy of one of them, since the matrix is symmetric
        "information correlation 1": (entropy - 2 * entropy_of_one) / apart,
        "information correlation 2": np.sqrt(1 - np.exp(-2 * np.maximum(2 * entropy_of_one - entropy, 0))),
    }


def local_patterns(samples: np.ndarray, neighbours: int, radius: int) -> Features:
    """Shares of the patterns that `patterns` tells apart; of a volume, of each of its three planes.

    Args:
        samples: (N, *spatial) uint8.
    """
    name = f"pattern {{}} of {neighbours} at {radius}"
    if samples.ndim == 3:
        planes = {"": samples[:, None]}
    else:
        planes = {f", across axis {axis}": np.moveaxis(samples, 1 + axis, 1) for axis in range(3)}
    out: Features = {}
    for where, stack in planes.items():
        codes = patterns(stack.reshape(-1, *stack.shape[2:]), neighbours, radius)
        share = _histogram(codes.reshape(len(samples), -1), neighbours + 2)
        out |= {name.format(code) + where: share[:, code] for code in range(neighbours + 2)}
    return out


def patterns(images: np.ndarray, neighbours: int, radius: int) -> np.ndarray:
    """Rotation-invariant uniform patterns (Ojala's riu2) of all pixels whose circle lies inside the image.

    A neighbour is 1 where it is at least as bright as the centre, and lies on the circle, interpolated between pixels.
    A pattern with at most two changes around the circle is the number of its ones, any other is `neighbours + 1`.

    Args:
        images: (N, H, W) uint8.

    Returns:
        (N, H - 2 radius, W - 2 radius) integers from 0 to `neighbours + 1`.
    """
    pixels = images.astype(np.float32)
    height, width = (side - 2 * radius for side in images.shape[1:])
    centre = pixels[:, radius : radius + height, radius : radius + width]
    ones, changes = np.zeros(centre.shape, np.uint8), np.zeros(centre.shape, np.uint8)
    first = before = np.zeros(centre.shape, bool)
    for place in range(neighbours):
        angle = 2 * np.pi * place / neighbours
        bright = _shifted(pixels, -radius * np.sin(angle), radius * np.cos(angle), radius) >= centre - TIE
        if place == 0:
            first = bright
        else:
            changes += bright != before
        ones += bright
        before = bright
    changes += first != before
    return np.where(changes <= 2, ones, neighbours + 1)


def _shifted(pixels: np.ndarray, down: float, right: float, radius: int) -> np.ndarray:
    """The image at every inner pixel moved so far, by bilinear interpolation: (N, H - 2 radius, W - 2 radius)."""
    down, right = round(down, 5) + radius, round(right, 5) + radius  # a whole number of pixels stays one
    height, width = (side - 2 * radius for side in pixels.shape[1:])
    out = np.zeros((len(pixels), height, width), np.float32)
    for row, row_weight in _between(down):
        for column, column_weight in _between(right):
            weight = np.float32(row_weight * column_weight)
            out += weight * pixels[:, row : row + height, column : column + width]
    return out


def _between(place: float) -> list[tuple[int, float]]:
    """The whole numbers on both sides of a place, with their weights; only one where it is whole."""
    low = int(np.floor(place))
    share = place - low
    return [(low, 1 - share), (low + 1, share)] if share else [(low, 1.0)]


def _histogram(codes: np.ndarray, bins: int) -> np.ndarray:
    """(N, bins) shares of the codes (N, V)."""
    own = codes + bins * np.arange(len(codes))[:, None]
    return np.bincount(own.ravel(), minlength=bins * len(codes)).reshape(len(codes), bins) / codes.shape[1]


def _entropy(share: np.ndarray) -> np.ndarray:
    """Shannon's, in bits, of distributions (N, bins)."""
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(1)
