"""Headers of many files -> one job for each volume or image."""

from __future__ import annotations

from collections import defaultdict

from medssl.ingest.identity import Keys, file_names, folder_pairs, is_generic
from medssl.ingest.readers.dicom import geometry
from medssl.ingest.readers.dicom.header import Header
from medssl.ingest.records import File, Job, Plan, Probe, Reject

# images of their own, even in a series
PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG", "US", "ES", "XC", "GM", "SM", "OP", "OT"})
SECTIONS = frozenset({"CT", "MR", "PT", "NM"})


def plan(probes: list[Probe], keys: Keys) -> Plan:
    """Group by series, then by plane (matrix, pixel size, direction), then by even stacks."""
    out = Plan()
    series: dict[str, list[Probe]] = defaultdict(list)
    seen: dict[str, Probe] = {}
    for probe in sorted(probes, key=lambda p: (p.file.root, p.file.name)):
        header: Header = probe.header
        if header.sop and header.sop in seen:
            out.ignored.append((probe.file, "repeated_instance"))
            continue
        seen[header.sop] = probe
        series[header.series or f"file {probe.file.id}"].append(probe)
    for uid in sorted(series):
        _plan_series(uid, series[uid], keys, out)
    return out


def _plan_series(uid: str, probes: list[Probe], keys: Keys, out: Plan) -> None:
    flat = [p for p in probes if _is_flat(p.header)]
    for probe in flat:
        job = _job(keys, uid, [probe], "image", probe.header.sop or probe.file.name)
        if probe.header.modality in SECTIONS:
            job.findings.append("no_geometry")
        out.jobs.append(job)
    planes: list[list[Probe]] = []
    for probe in (p for p in probes if not _is_flat(p.header)):
        home = next((plane for plane in planes if geometry.same_plane(plane[0].header, probe.header)), None)
        if home is None:
            planes.append([probe])
        else:
            home.append(probe)
    volume_there = any(len(plane) >= geometry.ENOUGH for plane in planes)
    found: list[tuple[list[Probe], str]] = []
    for plane in planes:
        if volume_there and len(plane) < geometry.ENOUGH:
            out.ignored += [(p.file, "localizer") for p in plane]
            continue
        headers = [p.header for p in plane]
        try:
            geometry.normal_of(headers[0])
            for number, stack in enumerate(geometry.stacks(headers)):
                found.append(([plane[i] for i in stack], f"{_plane_name(headers[0])} {number}"))
        except Reject as verdict:
            out.rejected += [(p.file, verdict.code) for p in plane]
    for members, name in found:
        if len(members) > 1 and members[0].header.samples > 1:
            out.rejected += [(p.file, "colour_volume") for p in members]
            continue
        job = _job(keys, uid, members, "volume" if len(members) > 1 else "image", name)
        if len(found) > 1:
            job.findings.append("split_series")
        if 1 < len(members) < 4:
            job.findings.append("few_slices")
        out.jobs.append(job)


def _is_flat(header: Header) -> bool:
    """A 2-D image of its own: a projection, or nothing that says where it lies in the patient."""
    if header.position is None or header.orientation is None or header.spacing is None:
        return True
    return header.modality in PROJECTIONS


def _plane_name(header: Header) -> str:
    direction = " ".join(f"{v:.1f}" for v in header.orientation or ())
    spacing = " ".join(f"{v:.3f}" for v in header.spacing or ())
    return f"{header.rows} {header.columns} {direction} {spacing}"


def _job(keys: Keys, uid: str, stack: list[Probe], kind: str, name: str) -> Job:
    first: Header = stack[0].header
    files = [p.file for p in stack]
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
        payload=(kind, [p.header for p in stack]),
        findings=["no_spacing"] if first.spacing is None else [],
    )


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
