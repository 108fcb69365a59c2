"""One average head: the MNI152 brain that the nilearn wheel carries, in skull and scalp of our own, warped per patient.

The template is the ICBM 152 nonlinear symmetric 2009a T1 average (Fonov 2011), brain only. A clinical slice shows the
rest of the head as well, so a layer of fluid, bone with marrow, and scalp fat is laid round it by distance.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medssl.errors import MedsslError

FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
WHITE = 225.0  # white matter in the template; all tissue below is a share of it
FLUID, MARROW, BONE, FAT = 0.28, 0.45, 0.06, 1.25
LOW_MM, HIGH_MM = -34.0, 84.0  # the part of the template that slabs, their tilt and warp included, reach
WARP_MM = (3.0, 1.7)  # spread of the coarse and the fine part of the warp
COARSE_MM = 2  # grid of the distance map


@dataclass(frozen=True)
class Template:
    """Head in MNI space.

    Attributes:
        brain: (X, Y, Z) float32 on a 1 mm grid, white matter 1, the gaps between gyri filled with fluid.
        depth: (X, Y, Z) float32 on a 2 mm grid: mm below (positive) or above the surface of the filled brain.
        origin: MNI mm of voxel (0, 0, 0) of both.
    """

    brain: np.ndarray
    depth: np.ndarray
    origin: np.ndarray


@lru_cache(maxsize=1)
def template() -> Template:
    """The head, read once a process.

    Raises:
        MedsslError: nilearn is not installed, or its wheel no longer carries the brain.
    """
    import nibabel
    from scipy import ndimage

    image = nibabel.Nifti1Image.from_filename(_file())
    affine = image.affine
    low, high = (round(mm - float(affine[2, 3])) for mm in (LOW_MM, HIGH_MM))
    brain = np.asanyarray(image.dataobj)[:, :, low:high].astype(np.float32) / WHITE
    coarse = ndimage.binary_closing(np.pad(brain[::2, ::2, ::2] > 0.2, 8, mode="edge"), iterations=6)[8:-8, 8:-8, 8:-8]
    depth = ndimage.distance_transform_edt(coarse) - ndimage.distance_transform_edt(~coarse)
    depth = ndimage.gaussian_filter(depth.astype(np.float32) * COARSE_MM, 1.0)
    brain = np.where(brain > 0, brain, np.float32(FLUID))
    return Template(brain, depth, affine[:3, 3] + [0, 0, low])


def warped(
    points_mm: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A new patient's head on a grid.

    Args:
        points_mm: MNI mm of the grid's planes along (z, y, x).
        rng: decides size, residual turn, warp, and how thick bone and scalp are.

    Returns:
        (head, depth), both (Z, Y, X) float32: tissue as a share of white matter (air 0), and mm below the surface of
        the brain.
    """
    from scipy import ndimage

    whole = template()
    shape = [len(p) for p in points_mm]
    centre = np.array([0.0, -18.0, 25.0])  # of the slab in MNI space, about which the head turns and grows
    turn = rotation(rng.normal(0, 3.0, 3)) @ np.diag(1 / rng.normal(1, 0.045, 3).clip(0.9, 1.1))
    z, y, x = (p.astype(np.float32) for p in points_mm)
    axes = [x[None, None, :] - centre[0], y[None, :, None] - centre[1], z[:, None, None] - centre[2]]
    warp = smooth_field(points_mm, 45.0, rng, 3) * WARP_MM[0] + smooth_field(points_mm, 24.0, rng, 3) * WARP_MM[1]
    rows = [
        sum(turn[row, column] * axes[column] for column in range(3)) + centre[row] + warp[row] - whole.origin[row]
        for row in range(3)
    ]
    place = np.stack([np.broadcast_to(row, shape) for row in rows]).astype(np.float32)
    brain = ndimage.map_coordinates(whole.brain, place, order=1, mode="nearest", output=np.float32)
    depth = ndimage.map_coordinates(whole.depth, place / COARSE_MM, order=1, mode="nearest", output=np.float32)
    return _with_skull(brain, depth, *rng.uniform((5.0, 4.0), (7.5, 7.5))), depth


def smooth_field(
    points_mm: tuple[np.ndarray, np.ndarray, np.ndarray], knots_mm: float, rng: np.random.Generator, channels: int
) -> np.ndarray:
    """Cubic B-splines with random coefficients: (channels, Z, Y, X) float32 of about unit spread."""
    bases = [_bsplines(p, knots_mm) for p in points_mm]
    field = rng.standard_normal((channels, *(b.shape[1] for b in bases))).astype(np.float32)
    for axis, basis in enumerate(bases, start=1):
        field = np.moveaxis(np.tensordot(field, basis, (axis, 1)), -1, axis)
    return field * np.float32(2.9)  # what the three averagings take from the spread


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Turn about x, then y, then z: (3, 3)."""
    (a, b, c), (sa, sb, sc) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, a, -sa], [0, sa, a]])
    about_y = np.array([[b, 0, sb], [0, 1, 0], [-sb, 0, b]])
    about_z = np.array([[c, -sc, 0], [sc, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _with_skull(brain: np.ndarray, depth: np.ndarray, bone_mm: float, scalp_mm: float) -> np.ndarray:
    """Brain, then 1.5 mm of fluid, bone with a stripe of marrow, scalp, air; edges soft over about a millimetre."""
    outside = -depth
    edges = np.cumsum([0.0, 1.5, 0.35 * bone_mm, 0.3 * bone_mm, 0.35 * bone_mm, scalp_mm])
    layers = (FLUID, BONE, MARROW, BONE, FAT, 0.0)
    head = brain.copy()
    for edge, tissue in zip(edges, layers, strict=True):
        share = np.clip((outside - edge) / 1.2 + 0.5, 0, 1)
        head += share * (tissue - head)
    return head


def _bsplines(points: np.ndarray, knots_mm: float) -> np.ndarray:
    """Cubic B-spline basis (points, knots), with knots every `knots_mm` and one beyond either end."""
    at = (points - points.min()) / knots_mm
    knots = np.arange(-1, int(np.floor(at.max())) + 3)
    t = np.abs(at[:, None] - knots[None, :])
    near, far = 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


def _file() -> Path:
    spec = importlib.util.find_spec("nilearn")  # found, not imported: nilearn itself takes seconds
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise MedsslError("the MNI152 brain was not found in the nilearn package", fix="Run `pip install nilearn`.")
