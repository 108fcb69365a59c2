"""Three scanners that do not exist, and what each makes of a head: contrasts, coil, noise, resolution, grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medssl.demo import head, lesions

SUBSLICES = 3  # a thick slice is the mean of so many thin ones
TISSUE = np.array([0.0, head.FLUID, 0.73, 0.97, head.FAT])  # air, fluid, gray, white, fat in the template


@dataclass(frozen=True)
class Scanner:
    """A scanner and its brain protocol.

    Attributes:
        manufacturer, model, tesla: for the header.
        form: `dicom` or `nifti`.
        compressed: DICOM as JPEG-LS, lossless.
        matrix, pixel_mm: in plane, square.
        slice_mm, gap_mm: thickness, and what lies between slices.
        curve: brightness of air, fluid, gray matter, white matter and fat.
        gain: stored value of brightness 1.
        signal_to_noise: of white matter.
        blur_px: spread of the point, in pixels.
        repetition_ms, echo_ms, flip_degrees: for the header.
    """

    manufacturer: str
    model: str
    tesla: float
    form: str
    compressed: bool
    matrix: int
    pixel_mm: float
    slice_mm: float
    gap_mm: float
    curve: tuple[float, float, float, float, float]
    gain: float
    signal_to_noise: float
    blur_px: float
    repetition_ms: float
    echo_ms: float
    flip_degrees: float


ALPHA = Scanner("Virtual Alpha", "A-1 Imaginary", 1.5, "dicom", False, 104, 1.88, 5.0, 0.5,
                (0.0, 0.26, 0.62, 0.88, 1.30), 620.0, 26.0, 0.45, 520.0, 12.0, 90.0)  # fmt: skip
BETA = Scanner("Virtual Beta", "B-3 Imaginary", 3.0, "dicom", True, 120, 1.63, 5.0, 0.0,
               (0.0, 0.16, 0.54, 0.92, 1.15), 1500.0, 34.0, 0.55, 650.0, 9.0, 80.0)  # fmt: skip
GAMMA = Scanner("Virtual Gamma", "G-2 Imaginary", 1.5, "nifti", False, 96, 2.04, 5.0, 1.0,
                (0.0, 0.33, 0.68, 0.84, 1.10), 300.0, 22.0, 0.40, 450.0, 14.0, 75.0)  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """Another contrast of the same protocol.

    Attributes:
        curve: as a scanner's.
        lesion: of which kind all lesions look in it.
    """

    curve: tuple[float, float, float, float, float]
    lesion: str


# Fluid is bright, white matter darker than gray, and each lesion has a bright core, as necrosis and tumour both have in
# T2: the kinds look alike, so that the first contrast of a lesion can be told only by chance, and the second one from
# the first only by knowing what belongs to a lesion.
T2 = Contrast((0.0, 1.25, 0.72, 0.5, 0.95), "solid")


@dataclass(frozen=True)
class Scan:
    """One slab.

    Attributes:
        voxels: (Z, Y, X) int16; x runs to the patient's left, y to the back, z to the head, before the tilt.
        mask: (Z, Y, X) uint8, 1 in lesions.
        affine: (4, 4), voxel (x, y, z) to RAS+ mm.
    """

    voxels: np.ndarray
    mask: np.ndarray
    affine: np.ndarray


def scan(scanner: Scanner, kind: str, rng: np.random.Generator) -> Scan:
    """A new patient with lesions of `kind` in `scanner`. The kind changes nothing that `rng` decides."""
    return scan_contrasts(scanner, kind, rng, ())[0]


def scan_contrasts(
    scanner: Scanner, kind: str, rng: np.random.Generator, more: tuple[Contrast, ...] = (T2,)
) -> list[Scan]:
    """The same, and the patient again in other contrasts on the same grid, with noise and coil of their own."""
    slices = int(rng.integers(12, 15))
    step = scanner.slice_mm + scanner.gap_mm
    middle = np.array([rng.normal(24, 3), rng.normal(-18, 3), rng.normal(0, 2)])  # (z, y, x) in MNI mm
    rows = (np.arange(scanner.matrix) - (scanner.matrix - 1) / 2) * scanner.pixel_mm
    thin = (np.arange(SUBSLICES) - (SUBSLICES - 1) / 2) * scanner.slice_mm / SUBSLICES
    levels = (np.arange(slices) - (slices - 1) / 2) * step
    points = (middle[0] + (levels[:, None] + thin).ravel(), middle[1] + rows, middle[2] + rows)
    tissue, depth = head.warped(points, rng)
    curve = np.array(scanner.curve) * (1 + rng.normal(0, 0.05, 5))
    image = np.interp(tissue, TISSUE, curve).astype(np.float32)
    found = lesions.place(tissue, depth, points, kind, int(rng.integers(*lesions.COUNT)), rng)
    cover = lesions.paint(image, points, found, curve[3] - curve[1])
    cover = cover.reshape(slices, SUBSLICES, *cover.shape[1:]).mean(1)
    mask = np.ascontiguousarray((cover > 0.5).astype(np.uint8)[:, ::-1, ::-1])
    first = _acquired(image, scanner, curve[3], (levels, rows, rows), rng)
    affine = _affine(scanner, slices, rng)
    scans = [Scan(first, mask, affine)]
    for contrast in more:
        curve = np.array(contrast.curve) * (1 + rng.normal(0, 0.05, 5))
        image = np.interp(tissue, TISSUE, curve).astype(np.float32)
        alike = [replace(lesion, kind=contrast.lesion) for lesion in found]
        lesions.paint(image, points, alike, abs(curve[3] - curve[1]))
        scans.append(Scan(_acquired(image, scanner, curve[2], (levels, rows, rows), rng), mask, affine))
    return scans


def _acquired(
    image: np.ndarray,
    scanner: Scanner,
    signal: float,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """(Z, Y, X) int16 of thin slices (SUBSLICES * Z, Y, X): thick ones, blurred, with the coil's shading and noise."""
    from scipy import ndimage

    image = image.reshape(len(places[0]), SUBSLICES, *image.shape[1:]).mean(1)
    image = ndimage.gaussian_filter(image, (0, scanner.blur_px, scanner.blur_px))
    coil = head.smooth_field(places, 90.0, rng, 1)[0]
    image *= np.exp(0.10 * coil)
    sigma = signal / (scanner.signal_to_noise * rng.uniform(0.8, 1.25))
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    image = np.hypot(image + noise[0], noise[1])  # a magnitude image: Rice's distribution
    gain = scanner.gain * rng.uniform(0.8, 1.25)
    # scanners turn arrays round: the grid's first column is the patient's right, its first row the front
    voxels = np.rint(np.clip(image * gain, 0, 4095)).astype(np.int16)[:, ::-1, ::-1]
    return np.ascontiguousarray(voxels)


def _affine(scanner: Scanner, slices: int, rng: np.random.Generator) -> np.ndarray:
    """A slab that the operator tilted with the head, somewhere near the isocentre."""
    affine = np.eye(4)
    tilt = head.rotation(rng.normal(0, (7.0, 2.0, 2.0)))
    spacing = (scanner.pixel_mm, scanner.pixel_mm, scanner.slice_mm + scanner.gap_mm)
    affine[:3, :3] = tilt @ np.diag([-spacing[0], -spacing[1], spacing[2]])
    half = np.array([scanner.matrix - 1, scanner.matrix - 1, slices - 1]) / 2
    affine[:3, 3] = rng.normal(0, (3.0, 8.0, 10.0)) - affine[:3, :3] @ half
    return affine
