"""Taking the slices of one plane apart into even stacks, each of which is one volume.

Geometry decides whether a stack is even, and what the headers say (echo, time, b-value, kernel, ...) only which slices
belong together. Nothing is dropped to make a stack even: what cannot be taken apart whole is refused.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medssl.ingest.readers.dicom.geometry import Plane
from medssl.ingest.readers.dicom.header import KEYS, Header
from medssl.ingest.records import Reject

ENOUGH = 3  # slices in each of the parts into which an even stack may be taken apart
DEPTH = 3  # keys that may have to be combined
# Slices that differ in one of these are no measurement of one volume, even where they lie in an even row.
SIDE_BY_SIDE = ("thickness", "kernel", "echo", "b_value", "component", "stack")
TEMPORAL = ("temporal", "trigger", "acquisition", "dimensions")
JITTER = 0.02  # of echo time or thickness that is no change


@dataclass
class Stack:
    """One even stack: indices in order, what told it apart ((key, value) pairs), and codes of findings."""

    order: np.ndarray
    by: list[tuple[str, str]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    point: int | None = None  # which time point, where time told it apart


def stacks_of(slices: Sequence[Header]) -> list[Stack]:
    """All slices, in even stacks.

    Slices at one and the same place are stacks of one slice each, with the finding `not_a_volume`.

    Raises:
        Reject: the code says what is wrong with the positions.
    """
    plane = Plane(slices)
    everything = plane.sort(range(len(slices)))
    problem = plane.problem(everything)
    if problem == "not_a_volume":
        return [Stack(np.array([i]), [("image", str(n))], ["not_a_volume"]) for n, i in enumerate(everything)]
    if problem is None:
        return _side_by_side(plane, everything) or [Stack(everything, [], _mixtures(plane, everything))]
    least = 2 if problem == "duplicate_slices" else ENOUGH
    found = (
        _by_keys(plane, everything, list(KEYS), least, DEPTH)
        or _by_rank(plane, everything)
        or _by_step(plane, everything)
    )
    if not found:
        raise Reject(problem)
    return found


def _side_by_side(plane: Plane, order: np.ndarray) -> list[Stack]:
    """Two acquisitions that continue each other in the same step: each one a run of neighbours."""
    for key in SIDE_BY_SIDE:
        parts = _parts(plane, order, key)
        if len(parts) < 2 or any(len(part) < ENOUGH for part in parts.values()):
            continue
        if all(plane.problem(part) is None for part in parts.values()):
            return [Stack(part, [(key, value)], _mixtures(plane, part)) for value, part in parts.items()]
    return []


def _by_keys(plane: Plane, order: np.ndarray, keys: list[str], least: int, depth: int) -> list[Stack]:
    """Parts by the first key, or the first few together, whose parts are all even; empty where none are.

    `least`: slices in each; two slices are even in any case, so they only count where they take repetitions apart.
    """
    for i, key in enumerate(keys):
        parts = _parts(plane, order, key)
        if len(parts) < 2 or min(map(len, parts.values())) < least:
            continue
        found: list[Stack] = []
        for point, (value, part) in enumerate(parts.items()):
            when = point if key in TEMPORAL else None
            if (problem := plane.problem(part)) is None:
                inner = _side_by_side(plane, part) or [Stack(part, [], _mixtures(plane, part))]
            elif problem == "not_a_volume" or depth <= 1:
                break
            else:
                inner = _by_keys(plane, part, keys[i + 1 :], least, depth - 1) or _by_step(plane, part)
            if not inner:
                break
            for stack in inner:
                stack.by.insert(0, (key, value))
                stack.point = when if stack.point is None else stack.point
            found += inner
        else:
            return found
    return []


def _by_rank(plane: Plane, order: np.ndarray) -> list[Stack]:
    """Time points told apart by the order of trigger or acquisition times at each place, equally many at each.

    The phases of a heartbeat and the passes of a contrast agent differ in time from slice to slice, so that no value is
    shared by a whole volume; their order is.
    """
    places = plane.places(order)
    counts = np.bincount(places)
    if len(counts) < 2 or counts.min() < 2 or counts.min() != counts.max():
        return []
    for name in ("trigger", "time"):
        times = [_time(plane.slices[i], name) for i in order]
        if None in times:
            continue
        values = np.array(times, float)
        ranked = order[np.lexsort((values, places))].reshape(len(counts), -1)
        sorted_values = values[np.lexsort((values, places))].reshape(len(counts), -1)
        if (np.diff(sorted_values, axis=1) <= 0).any():
            continue
        columns = [ranked[:, t] for t in range(ranked.shape[1])]
        if all(plane.problem(column) is None for column in columns):
            return [
                Stack(column, [("time order", str(t))], ["ordered_by_time", *_mixtures(plane, column)], t)
                for t, column in enumerate(columns)
            ]
    return []


def _by_step(plane: Plane, order: np.ndarray) -> list[Stack]:
    """Runs of one step each, where the step changes (the gap between two runs belongs to neither).

    The same step on both sides of a gap means missing slices, and so do runs too short to be sure of their step.
    """
    gaps = np.diff(plane.depths[order])
    if len(gaps) < 2 * ENOUGH - 1 or gaps.min() <= 0.001:
        return []
    runs: list[np.ndarray] = []
    steps: list[float] = []
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop == start + 1 or abs(gaps[stop - 1] - gaps[start]) <= 0.02 * gaps[start]):
            stop += 1
        runs.append(order[start:stop])
        steps.append(float(gaps[start]) if stop - start > 1 else 0.0)
        start = stop
    if len(runs) < 2 or min(map(len, runs)) < ENOUGH or any(plane.problem(run) for run in runs):
        return []
    if any(abs(a - b) <= 0.05 * max(a, b) for a, b in itertools.pairwise(steps)):
        return []
    return [Stack(run, [("step", str(n))], ["step_changes"]) for n, run in enumerate(runs)]


def _parts(plane: Plane, order: np.ndarray, key: str) -> dict[str, np.ndarray]:
    """Sorted indices by the key's value, values in their natural order; almost equal numbers count as one."""
    index = KEYS.index(key)
    groups: dict[str, list[int]] = defaultdict(list)
    for i in order:
        groups[plane.slices[i].keys[index]].append(int(i))
    if key in ("echo", "thickness") and len(groups) > 1:
        groups = _joined(groups)
    values = sorted(groups, key=_natural)
    return {value: plane.sort(groups[value]) for value in values}


def _joined(groups: dict[str, list[int]]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = {}
    last = ""
    for value in sorted(groups, key=_natural):
        near = last and value and abs(float(value) - float(last)) <= JITTER * abs(float(last))
        last = last if near else value
        out.setdefault(last, []).extend(groups[value])
    return out


def _natural(value: str) -> tuple[int, float, str]:
    try:
        return (1, float(value), "")
    except ValueError:
        return (0, 0.0, value)


def _mixtures(plane: Plane, order: np.ndarray) -> list[str]:
    """An even stack whose slices were not all taken alike is kept, and said."""
    mixed = any(len(_parts(plane, order, key)) > 1 for key in SIDE_BY_SIDE)
    return ["mixed_settings"] if mixed else []


def _time(header: Header, name: str) -> float | None:
    if name == "time":
        return header.time
    value = header.keys[KEYS.index("trigger")]
    return float(value) if value else None
