"""Lesions of two kinds that differ in how light and dark lie inside them, and in nothing else.

`ring`: a dark core in a bright rim. `solid`: a bright core in a dark rim. Each lesion has one and the same shape and
profile, which the kind turns inside out: p(u) against p(1 - u), where u is the share of the lesion's volume that lies
deeper. So size, number, place, and the brightness that a lesion adds in all are the same, and before the scanner blurs
them its spread as well. The scanner blurs a thin rim more than a core, so the full histogram of the finished slices
still tells the kinds apart; coarse pixels and random features hardly do at ten labels a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("ring", "solid")
COUNT = (16, 22)  # of a patient, the last left out
RADIUS_MM = (9.0, 14.0)
CONTRAST = (0.72, 1.0)  # of white matter over fluid
CORE = 0.38  # share of the volume that the core has


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid with a bumpy surface.

    Attributes:
        centre: (z, y, x) in mm of the grid.
        axes: (3, 3) that takes an offset in mm into the unit ball.
        waves: (n, 4) directions and strength of the bumps.
        contrast: of core against rim.
        kind: one of KINDS.
    """

    centre: np.ndarray
    axes: np.ndarray
    waves: np.ndarray
    contrast: float
    kind: str


def place(
    head: np.ndarray,
    depth: np.ndarray,
    points_mm: tuple[np.ndarray, np.ndarray, np.ndarray],
    kind: str,
    count: int,
    rng: np.random.Generator,
) -> list[Lesion]:
    """Up to `count` lesions inside the brain that do not touch.

    Args:
        head: (Z, Y, X) tissue as a share of white matter.
        depth: (Z, Y, X) mm below the surface of the brain.
        points_mm: mm of the grid's planes along (z, y, x).
        kind: one of KINDS.
        count: wanted; fewer where the brain is full.
        rng: decides the rest; it is asked the same questions whatever the kind.
    """
    inside = np.flatnonzero((depth > 7.0) & (head > 0.55))
    lesions: list[Lesion] = []
    reach: list[float] = []
    for spot in rng.choice(inside, size=min(40 * count, len(inside)), replace=False):
        if len(lesions) == count:
            break
        at = np.array([p[i] for p, i in zip(points_mm, np.unravel_index(spot, head.shape), strict=True)])
        radius = rng.uniform(*RADIUS_MM)
        radii = radius * rng.uniform(0.85, 1.18, 3)
        waves = np.column_stack([rng.normal(0, 2.2, (5, 3)), rng.normal(0, 0.07, 5)])
        contrast = rng.uniform(*CONTRAST)
        if any(np.linalg.norm(at - o.centre) < radius + r + 2.0 for o, r in zip(lesions, reach, strict=True)):
            continue
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        lesions.append(Lesion(at, turn / radii[:, None], waves, contrast, kind))
        reach.append(radius)
    return lesions


def paint(
    image: np.ndarray,
    points_mm: tuple[np.ndarray, np.ndarray, np.ndarray],
    lesions: list[Lesion],
    contrast: float,
) -> np.ndarray:
    """Draw lesions into `image` (Z, Y, X), in place.

    Args:
        contrast: what a lesion's contrast of 1 is in the image's unit.

    Returns:
        (Z, Y, X) float32 share of each voxel that is lesion.
    """
    cover = np.zeros(image.shape, np.float32)
    for lesion in lesions:
        reach = 1.35 * np.linalg.norm(np.linalg.inv(lesion.axes), 2)
        box = tuple(
            slice(*np.searchsorted(p, [c - reach, c + reach])) for p, c in zip(points_mm, lesion.centre, strict=True)
        )
        offsets = np.meshgrid(*(p[b] - c for p, b, c in zip(points_mm, box, lesion.centre, strict=True)), indexing="ij")
        ball = np.tensordot(lesion.axes, np.stack(offsets), 1)
        radius = np.linalg.norm(ball, axis=0)
        direction = ball / (radius + 1e-6)
        bumps = sum(w[3] * np.cos(np.tensordot(w[:3], direction, 1) + i) for i, w in enumerate(lesion.waves))
        radius = radius / (1 + bumps)
        share = np.clip((1 - radius) / 0.15 + 0.5, 0, 1)
        volume = np.clip(radius, 0, 1) ** 3  # share of the lesion that lies deeper
        if lesion.kind == "solid":
            volume = 1 - volume
        profile = np.tanh((volume - CORE) * 6.0)
        here = image[box]
        around = float((here * share).sum() / max(share.sum(), 1e-6))
        new = around + 0.45 * (here - around) + contrast * lesion.contrast * profile
        image[box] = here + share * (new - here)
        cover[box] = np.maximum(cover[box], share)
    return cover
