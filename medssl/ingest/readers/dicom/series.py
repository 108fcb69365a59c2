"""Headers of many files -> one job for each volume or image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from medssl.ingest.identity import Keys, file_names, folder_pairs, is_generic
from medssl.ingest.privacy import about, flags
from medssl.ingest.readers.dicom import geometry
from medssl.ingest.readers.dicom.frames import MAX_FILM, of_film
from medssl.ingest.readers.dicom.header import KEYS, Header
from medssl.ingest.readers.dicom.stacks import ENOUGH, Stack, stacks_of
from medssl.ingest.readers.dicom.values import RESCALE_TYPES
from medssl.ingest.records import File, Job, Plan, Probe, Reject, Value

# images of their own, even in a series, unless functional groups say where each frame lies (as in tomosynthesis)
PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG", "US", "ES", "XC", "GM", "SM", "OP", "OT"})
SECTIONS = frozenset({"CT", "MR", "PT", "NM"})
MAX_VOXEL_BYTES = 16 << 30  # of one volume


class Slice(NamedTuple):
    file: File
    header: Header


@dataclass
class Payload:
    """What `pixels.read` needs: the headers in order, and which of the job's files each one is in.

    `decoded`: files that hold the stored values of all images in order, where they were decoded ahead.
    """

    kind: str
    headers: list[Header]
    places: list[int]
    attributes: dict[str, Value] = field(default_factory=dict)
    decoded: list[str] = field(default_factory=list)


def plan(probes: list[Probe], keys: Keys) -> Plan:
    """Group by series, then by plane (matrix, pixel size, direction), then by even stacks.

    A series of several patients (some de-identifiers write one UID for all) is that many series.
    """
    out = Plan()
    series: dict[str, dict[str, list[Slice]]] = defaultdict(lambda: defaultdict(list))
    seen: set[tuple[str, str]] = set()
    ordered = sorted(probes, key=lambda p: (p.file.root, p.file.name))
    _agree_on_issuers(ordered)
    for probe in ordered:
        first: Header = probe.header[0]
        owner = f"exam {first.study}" if is_generic(first.patient_id) else f"{first.issuer} {first.patient_id}"
        if first.sop and (first.sop, owner) in seen:
            out.ignored.append((probe.file, "repeated_instance"))
            continue
        seen.add((first.sop, owner))
        series[first.series or f"file {probe.file.id}"][owner] += [Slice(probe.file, header) for header in probe.header]
    for uid, owners in sorted(series.items()):
        for owner, slices in sorted(owners.items()):
            begun = len(out.jobs)
            _plan_series(uid if len(owners) == 1 else f"{uid} {owner}", slices, keys, out)
            for job in out.jobs[begun:] if len(owners) > 1 else ():
                job.findings.append("series_of_several_patients")
    _say_what_is_left_out(out)
    return out


def _agree_on_issuers(probes: Sequence[Probe]) -> None:
    """Within one exam a PatientID means one person, also where a derived series lost the institution's name or spells
    it otherwise: all get the issuer that most files name."""
    exams: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for probe in probes:
        for header in probe.header:
            if header.study:
                exams[header.study, header.patient_id].append(header)
    for headers in exams.values():
        count = Counter(header.issuer for header in headers)
        if len(count) > 1:
            issuer = min((i for i in count if i), key=lambda i: (-count[i], i))
            for header in headers:
                header.issuer = issuer


def _say_what_is_left_out(out: Plan) -> None:
    """A file is accepted where any of its frames is; that others are not is said with its scans."""
    verdicts = [*dict.fromkeys(out.rejected)], [*dict.fromkeys(out.ignored)]
    out.rejected, out.ignored = verdicts
    lost = {file.id for part in verdicts for file, _ in part}
    for job in out.jobs:
        if lost and any(file.id in lost for file in job.files):
            job.findings.append("frames_left_out")


def _plan_series(uid: str, slices: list[Slice], keys: Keys, out: Plan) -> None:
    films: dict[str, list[Slice]] = defaultdict(list)
    planes: list[list[Slice]] = []
    for item in slices:
        if _is_flat(item.header):
            films[item.file.id].append(item)
            continue
        home = next((plane for plane in reversed(planes) if geometry.same_plane(plane[0].header, item.header)), None)
        if home is None:
            planes.append([item])
        else:
            home.append(item)
    for film in films.values():
        _plan_film(uid, film, keys, out)
    volume_there = any(len(plane) >= ENOUGH for plane in planes)
    found: list[tuple[list[Slice], Stack]] = []
    for plane in planes:
        if volume_there and len(plane) < ENOUGH:
            out.ignored += [(p.file, "localizer") for p in plane]
            continue
        try:
            geometry.normal_of(plane[0].header)
            found += [([plane[i] for i in stack.order], stack) for stack in stacks_of([p.header for p in plane])]
        except Reject as verdict:
            out.rejected += [(p.file, verdict.code) for p in plane]
    _plan_stacks(uid, found, keys, out)


def _plan_film(uid: str, film: list[Slice], keys: Keys, out: Plan) -> None:
    """Every image on its own."""
    chosen = [film[i] for i in of_film(len(film))]  # `frames` has done so, but for frames with functional groups
    thinned = len(chosen) == MAX_FILM < film[0].header.frames
    for item in chosen:
        name = item.header.sop or item.file.name
        if len(film) > 1:
            name = f"{name} frame {item.header.frame}"
        job = _job(keys, uid, [item], "image", name)
        if len(film) > 1:
            job.payload.attributes["frame"] = item.header.frame
            job.findings.append("film_thinned" if thinned else "film")
        if item.header.modality in SECTIONS:
            job.findings.append("no_geometry")
        out.jobs.append(job)


def _plan_stacks(uid: str, found: list[tuple[list[Slice], Stack]], keys: Keys, out: Plan) -> None:
    names: Counter[str] = Counter()
    split = len(found) > 1
    turned = split and any(not geometry.same_direction(found[0][0][0].header, s[0].header) for s, _ in found[1:])
    _number_containers(found)
    for members, stack in found:
        first = members[0].header
        if first.frame_bytes * len(members) > MAX_VOXEL_BYTES:
            out.rejected += [(p.file, "too_large") for p in members]
            continue
        if _mixes_units(members):
            out.rejected += [(p.file, "mixed_rescale") for p in members]
            continue
        name = " ".join([_plane_name(first), *(f"{key}={value}" for key, value in stack.by)])
        names[name] += 1
        job = _job(keys, uid, members, "volume" if len(members) > 1 else "image", f"{name} {names[name] - 1}")
        if stack.point is not None:
            job.payload.attributes["time_point"] = stack.point
        job.findings += stack.findings
        if split and "not_a_volume" not in stack.findings:
            job.findings.append("mixed_orientations" if turned else "split_series")
        if 1 < len(members) < 4:
            job.findings.append("few_slices")
        out.jobs.append(job)


def _mixes_units(members: list[Slice]) -> bool:
    """Whether some slices are rescaled and others are not: their numbers cannot be compared."""
    known = {(p.header.rescaled, p.header.slope, p.header.intercept) for p in members}
    return len({rescaled for rescaled, _, _ in known}) > 1 and any(part[1:] != (1.0, 0.0) for part in known)


def _number_containers(found: list[tuple[list[Slice], Stack]]) -> None:
    """Volumes on one grid that came as one object each (mosaics) are time points, in the order of acquisition."""
    grids: dict[tuple, list[tuple[Header, Stack]]] = defaultdict(list)
    for members, stack in found:
        first, last = members[0].header, members[-1].header
        if first.container and stack.point is None:
            grids[first.position, last.position, first.orientation, first.keys[: KEYS.index("b_value") + 1]].append(
                (first, stack)
            )
    acquisition = KEYS.index("acquisition")
    for same in grids.values():
        if len({first.container for first, _ in same}) == len(same) > 1:
            same.sort(key=lambda pair: (float(pair[0].keys[acquisition] or 0), pair[0].time or 0.0, pair[0].number))
            for point, (_, stack) in enumerate(same):
                stack.point = point


def _is_flat(header: Header) -> bool:
    """A 2-D image of its own: a projection, or nothing that says where it lies in the patient."""
    return not header.is_located or (header.modality in PROJECTIONS and not header.own)


def _plane_name(header: Header) -> str:
    direction = " ".join(f"{v:.1f}" for v in header.orientation or ())
    spacing = " ".join(f"{v:.3f}" for v in header.spacing or ())
    return f"{header.container} {header.rows} {header.columns} {direction} {spacing}".strip()


def _job(keys: Keys, uid: str, stack: Sequence[Slice], kind: str, name: str) -> Job:
    first = stack[0].header
    files = list({item.file.id: item.file for item in stack}.values())
    index = {file.id: i for i, file in enumerate(files)}
    exam = first.study or uid
    if is_generic(first.patient_id):
        patient, patient_from = keys.patient_of("exam", exam), "exam"
    else:
        patient, patient_from = keys.patient(first.issuer, first.patient_id), "id"
    return Job(
        reader="dicom",
        scan=keys.scan("dicom", uid, name),
        files=files,
        patient=patient,
        exam=keys.exam("dicom", exam),
        series=keys.series("dicom", uid),
        patient_from=patient_from,
        names=_names(keys, first, files),
        payload=Payload(
            kind,
            [item.header for item in stack],
            [index[item.file.id] for item in stack],
            _attributes(first) | about.attributes(first.about, keys, patient),
        ),
        findings=flags.of_header(first.about) + (["no_spacing"] if first.spacing is None else []),
    )


def _attributes(first: Header) -> dict[str, Value]:
    """What the catalog keeps of the first image besides its columns: numbers, and words of closed vocabularies."""
    keys = dict(zip(KEYS, first.keys, strict=True))
    out: dict[str, Value] = {}
    for name, key in (("echo_time_ms", "echo"), ("b_value", "b_value"), ("temporal_position", "temporal"),
                      ("trigger_time_ms", "trigger"), ("acquisition", "acquisition")):  # fmt: skip
        if keys[key]:
            out[name] = float(keys[key])
    if keys["component"]:
        out["component"] = keys["component"]
    if first.thickness is not None:
        out["slice_thickness_mm"] = first.thickness
    if first.spacing_from:
        out["pixel_spacing_from"] = first.spacing_from
    if first.magnification != 1:
        out["magnification"] = first.magnification
    if first.rescale_type:
        out["rescale_type"] = first.rescale_type if first.rescale_type in RESCALE_TYPES else "other"
    if first.tiles:
        out["mosaic"] = True
    return out


def _names(keys: Keys, header: Header, files: list[File]) -> list[tuple[str, str]]:
    """Under which names a label table may call the scan: file or folder, UIDs, PatientID."""
    if len(files) == 1:
        names = file_names(keys, files[0].name)
        names.append(("uid", keys.name("uid", header.sop)))
    else:
        folders = {file.name.rpartition("/")[0] for file in files}
        pairs = [pair for folder in sorted(folders) for pair in folder_pairs(folder)]
        names = [(kind, keys.name(kind, text)) for kind, text in dict.fromkeys(pairs)]
    for uid in (header.series, header.study):
        if uid:
            names.append(("uid", keys.name("uid", uid)))
    if header.patient_id:
        names.append(("patient", keys.name("patient", header.patient_id)))
    return names
