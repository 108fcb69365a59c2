"""`medssl deidentify`: the DICOM images of a source again, without what identifies in their headers and names.

Only what ingestion takes for an image or a segmentation is written: no rule cleans the free text of reports.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import SourcePath, UserError
from medssl.ingest import discover
from medssl.ingest.disk import ends_cleanly
from medssl.ingest.estimate import useful_jobs
from medssl.ingest.fates import Fates
from medssl.ingest.headers import read_headers
from medssl.ingest.identity import Keys, is_generic
from medssl.ingest.opening import open_file
from medssl.ingest.privacy.elements import clean, keyed_uid
from medssl.ingest.records import File, Ignore, Probe, Reject
from medssl.progress import bar
from medssl.workspace import Workspace, atomic


@dataclass
class Deidentified:
    """What became of every file: `found == written + sum(not_copied.values())`.

    Attributes:
        not_copied: files by reason: a code of `findings`, `no_dicom`, or `mosaic` (it needs private elements).
        burned_in: images written whose header says that their pixels carry text. Pixels are as they were.
    """

    out: str
    found: int = 0
    written: int = 0
    burned_in: int = 0
    not_copied: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        names = ("out", "found", "written", "burned_in")
        return {**{n: getattr(self, n) for n in names}, "not_copied": dict(self.not_copied)}

    def lines(self) -> list[str]:
        """For a person to read."""
        return [
            f"{self.found} files: {self.written} written, {sum(self.not_copied.values())} not copied",
            *(f"  not copied: {n} ({code})" for code, n in self.not_copied.most_common()),
            f"Text in pixels and faces are NOT removed; {self.burned_in} headers say that there is burned-in text.",
            f"To see what the pixels hold: medssl ingest {self.out} --cohort DIR, and look at burned_in_pixels.",
        ]


@ends_cleanly()
def deidentify(source: str | Path, out: str | Path, workspace: Workspace) -> Deidentified:
    """Write `OUT/PATIENT/EXAM/SERIES/FILE.dcm`, all names keyed as in the workspace's cohorts.

    Raises:
        UserError: no such source, or `out` is not empty or lies in the source.
    """
    source, out, keys = Path(source).expanduser().resolve(), Path(out).expanduser().resolve(), Keys(workspace)
    if out.is_relative_to(source):
        raise UserError("the output would lie inside the source", SourcePath(out), "Name another folder.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("the folder for de-identified files holds something", str(out), "Name a new or empty folder.")
    files = discover.find_files([source], keys)
    fates = Fates(files)
    probes = read_headers(files, keys, fates, useful_jobs(files))
    done = Deidentified(str(out), len(fates.files))
    done.not_copied.update(code for status, code, _ in fates.status.values() if status != "accepted")
    with bar("de-identifying", len(probes)) as progress:
        for probe in probes:
            try:
                done.burned_in += _write(probe, out, keys)
                done.written += 1
            except (Ignore, Reject) as verdict:
                done.not_copied[verdict.code] += 1
            progress.advance()
    return done


def _write(probe: Probe, out: Path, keys: Keys) -> bool:
    """Whether its header says that text is burned in.

    Raises:
        Ignore, Reject: the file is no DICOM image, or cannot be read.
    """
    import pydicom
    from pydicom.config import disable_value_validation

    file = probe.file
    if probe.reader != "dicom":
        raise Ignore("no_dicom")
    with open_file(file) as stream, disable_value_validation():
        try:
            data = pydicom.dcmread(stream, force=True)
            if "MOSAIC" in data.get("ImageType", ()):
                raise Ignore("mosaic")
            patient, exam, series = _owners(data, keys, file)
            burned_in = str(data.get("BurnedInAnnotation", "")).strip().upper() == "YES"
            meta = _meta(data, keys)
            clean(data, keys, patient)
        except (Ignore, Reject):
            raise
        except Exception:  # pydicom raises whatever a damaged file makes it raise
            raise Reject("unreadable") from None
        data.file_meta, data.preamble = meta, bytes(128)
        with atomic(out / patient / exam / series / f"{file.id}.dcm") as path:
            data.save_as(path, enforce_file_format=True)
    return burned_in


def _owners(data: Any, keys: Keys, file: File) -> tuple[str, str, str]:
    """Keys of patient, exam and series, as ingestion gives them to the same file."""

    def word(keyword: str) -> str:
        return str(data.get(keyword) or "").strip().strip("\0")

    series = word("SeriesInstanceUID") or f"file {file.id}"
    exam = word("StudyInstanceUID") or series
    issuer = " ".join((word("IssuerOfPatientID") or word("InstitutionName")).casefold().split())
    who = word("PatientID")
    patient = keys.patient_of("exam", exam) if is_generic(who) else keys.patient(issuer, who)
    return patient, keys.exam("dicom", exam), keys.series("dicom", series)


def _meta(data: Any, keys: Keys) -> Any:
    """New File Meta Information: which object in which syntax, and nothing of who wrote or sent it."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    old, meta = data.file_meta, FileMetaDataset()
    bare = ImplicitVRLittleEndian if data.original_encoding[0] else ExplicitVRLittleEndian
    meta.TransferSyntaxUID = old.get("TransferSyntaxUID") or bare
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID") or old.get("MediaStorageSOPClassUID")
    instance = data.get("SOPInstanceUID") or old.get("MediaStorageSOPInstanceUID")
    meta.MediaStorageSOPInstanceUID = UID(keyed_uid(keys, str(instance)))
    return meta
