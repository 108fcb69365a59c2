"""What passes between the steps of ingestion: File -> Probe -> Job -> Scan. All of it crosses process borders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Value = str | int | float | bool

# What a scan may carry besides the catalog's columns: numbers, and words of a closed vocabulary; never text of a file.
ATTRIBUTES = frozenset(
    """
    time_point echo_time_ms b_value temporal_position trigger_time_ms acquisition frame image_type component
    slice_thickness_mm gantry_tilt_degrees pixel_spacing_from magnification rescale_type forms_apart_mm mosaic
    study_date age sex recognizable_features
    bids_suffix
    """.split()
)


class Reject(Exception):
    """The file or series should have been a scan and cannot be one; `code` is a key of `findings.FINDINGS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Ignore(Exception):
    """The file is no scan and need not be one."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True, frozen=True)
class File:
    """A file of a source. `name` is its path below the source with `/`; `id` is keyed and the only one ever shown.

    A member of an archive has the archive's `path`, its place there as `member`, and as `mtime_ns` what changes with
    its content.
    """

    path: str
    root: str
    name: str
    size: int
    mtime_ns: int
    id: str
    member: int | None = None


@dataclass(slots=True)
class Probe:
    """What the first pass learned: the reader that knows the file, and that reader's header of it."""

    file: File
    reader: str
    header: Any = None


@dataclass(slots=True)
class Job:
    """One scan to be read, with all of its keyed names: workers never see the secret.

    Attributes:
        names: (kind, keyed name) pairs by which label tables and masks may call the scan.
        patient_from: `id` (a patient id in the file, or a BIDS subject in its path), `exam` (empty or generic id) or
            `file` (none in this format).
        payload: what the reader's `read` needs.
        labels: values that the file itself carries, by target.
        findings: codes that planning noticed.
    """

    reader: str
    scan: str
    files: list[File]
    patient: str
    exam: str
    series: str
    patient_from: str
    names: list[tuple[str, str]]
    source: str = ""
    payload: Any = None
    labels: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scan:
    """What a reader hands over.

    Attributes:
        array: (z, y, x) in RAS+, (y, x), (C, y, x) or (C, z, y, x).
        kind: volume, image, colour, or colour_volume (channels first, then z, y, x).
        spacing: mm in the order of the spatial axes of `array`, or None.
        affine: 4 x 4, index (x, y, z) of `array` -> RAS+ mm, or None.
        padding: True where there is no measurement, on the grid of `array`, or None.
        attributes: values by the names in ATTRIBUTES.
    """

    array: np.ndarray
    kind: str
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    unit: str = "a.u."
    modality: str = "unknown"
    vendor: str = "unknown"
    body_part: str = "unknown"
    padding: np.ndarray | None = None
    findings: list[str] = field(default_factory=list)
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a reader makes of all probes of its format: jobs, and a verdict on every file that is in none of them."""

    jobs: list[Job] = field(default_factory=list)
    rejected: list[tuple[File, str]] = field(default_factory=list)
    ignored: list[tuple[File, str]] = field(default_factory=list)
