"""Virtual patients: a folder of DICOM and NIfTI scans, masks and labels that looks like what a hospital hands over.

FOLDER/README.txt        that they are virtual, and how they were made
FOLDER/labels.csv        patient, lesion
FOLDER/dicom/PATIENT/    series of two scanners, one uncompressed and one JPEG-LS
FOLDER/nifti/PATIENT.nii.gz
FOLDER/masks/PATIENT.nii.gz
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.demo import scanners, writers
from medssl.demo.lesions import KINDS
from medssl.errors import UserError
from medssl.progress import bar
from medssl.workspace import write_text

RECIPE = 3  # counts up when other pixels would be made
BLOCK = [(s, k) for s in (scanners.ALPHA, scanners.BETA, scanners.GAMMA, scanners.GAMMA) for k in KINDS]
PARTIAL = ".partial"
README = """\
VIRTUAL PATIENTS. No person was scanned for this.

{patients} patients made by medssl (recipe {recipe}, seed {seed}) from one average brain, the ICBM 152 T1 template in
the nilearn package. Skull and scalp, warp, contrast, coil, noise, grid and lesions are drawn by chance. The scanners
"Virtual Alpha", "Virtual Beta" and "Virtual Gamma" do not exist; names, dates, ages and sexes mean nothing.

dicom/PATIENT/        MR series of Virtual Alpha (uncompressed) and Virtual Beta (JPEG-LS, lossless)
nifti/PATIENT.nii.gz  MR volumes of Virtual Gamma
masks/PATIENT.nii.gz  1 inside a lesion, on the grid of the scan
labels.csv            patient (PatientID, or the file name without .nii.gz) and lesion:
                      "ring" (dark core, bright rim) or "solid" (bright core, dark rim)

They are there to show and test software. What a method scores here is no evidence of what it does for people.
"""


@dataclass(frozen=True)
class Patient:
    """What is decided before a patient is made."""

    number: int
    name: str
    scanner: scanners.Scanner
    kind: str

    def scan_path(self, folder: Path) -> Path:
        return (
            folder / "dicom" / self.name if self.scanner.form == "dicom" else folder / "nifti" / f"{self.name}.nii.gz"
        )

    def mask_path(self, folder: Path) -> Path:
        return folder / "masks" / f"{self.name}.nii.gz"


def make_virtual_patients(folder: Path, patients: int = 240, seed: int = 0, jobs: int | None = None) -> Path:
    """Fill `folder` with virtual patients; those that are there already are not made again.

    The same number and seed give the same files, byte for byte; fewer patients are the first of more.

    Args:
        folder: new, empty, or left by an earlier call with the same number and seed.
        patients: how many; of every eight, four come as DICOM, and each kind of lesion has half of each scanner.
        seed: of all chance.
        jobs: processes; default one a core.

    Returns:
        `folder`.

    Raises:
        UserError: fewer than 2 patients, or the folder holds something else.
    """
    if patients < len(KINDS):
        raise UserError(f"{patients} virtual patients are too few", "patients", "Ask for at least 2.")
    folder = Path(folder)
    readme = README.format(patients=patients, recipe=RECIPE, seed=seed)
    claim(folder, readme, ("masks", "nifti", "dicom"))
    everyone = plan(patients, seed)
    todo = [p for p in everyone if not (p.scan_path(folder).exists() and p.mask_path(folder).exists())]
    with bar("making virtual patients", patients, done=patients - len(todo)) as progress:
        for _ in each(make_patient, todo, folder, seed, jobs or os.cpu_count() or 1):
            progress.advance()
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    write_text(folder / "labels.csv", "patient,lesion\n" + "".join(f"{p.name},{p.kind}\n" for p in everyone))
    return folder


def plan(patients: int, seed: int) -> list[Patient]:
    """Who they are: in every block of eight each pair of scanner and kind once (NIfTI's twice), in random order."""
    out: list[Patient] = []
    for block in range(-(-patients // len(BLOCK))):
        rng = np.random.default_rng([seed, 0, block])
        for scanner, kind in (BLOCK[i] for i in rng.permutation(len(BLOCK))):
            number = len(out) + 1
            out.append(Patient(number, f"VIRT{number:04d}", scanner, kind))
    return out[:patients]


def make_patient(patient: Patient, folder: Path, seed: int) -> None:
    """Scan and write one patient: first beside the folder's contents, then into place, the scan last."""
    image_rng, header_rng = (np.random.default_rng([seed, use, patient.number]) for use in (1, 2))
    scan = scanners.scan(patient.scanner, patient.kind, image_rng)
    fresh = folder / PARTIAL / patient.name
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    writers.write_nifti(fresh / "mask.nii.gz", scan.mask, scan.affine)
    if patient.scanner.form == "dicom":
        (fresh / "scan").mkdir()
        writers.write_dicom(fresh / "scan", scan, patient.scanner, patient.name, seed, header_rng)
    else:
        writers.write_nifti(fresh / "scan", scan.voxels, scan.affine)
    (fresh / "mask.nii.gz").replace(patient.mask_path(folder))
    shutil.rmtree(patient.scan_path(folder), ignore_errors=True)
    (fresh / "scan").replace(patient.scan_path(folder))


def claim(folder: Path, readme: str, parts: tuple[str, ...] = ()) -> None:
    """Make the folder ours, or say why it cannot be."""
    note = folder / "README.txt"
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not note.is_file())):
        raise UserError("the folder for virtual patients holds something else", str(folder), "Name a new or empty one.")
    if note.is_file() and note.read_text(encoding="utf-8") != readme:
        raise UserError("the folder holds other virtual patients", str(folder), "Delete it, or name a new one.")
    for part in ("", *parts):
        (folder / part).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)  # of a run that was cut off
    write_text(note, readme)


def each(
    make: Callable[[Patient, Path, int], None], todo: list[Patient], folder: Path, seed: int, jobs: int
) -> Iterator[None]:
    """Make the patients, in processes where there are many, and say after each one that it is done."""
    if jobs == 1 or len(todo) < 8:  # starting processes takes longer
        for patient in todo:
            make(patient, folder, seed)
            yield
        return
    from joblib import Parallel, delayed

    work = Parallel(n_jobs=min(jobs, len(todo)), return_as="generator_unordered")
    yield from work(delayed(make)(patient, folder, seed) for patient in todo)
