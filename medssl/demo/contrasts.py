"""Virtual patients in two contrasts on one grid, as a BIDS data set: what `cross_channel` is shown with.

FOLDER/README.txt                          that they are virtual, and how they were made
FOLDER/labels.csv                          patient, lesion
FOLDER/sub-VIRT0001/anat/sub-VIRT0001_T1w.nii.gz
FOLDER/sub-VIRT0001/anat/sub-VIRT0001_T2w.nii.gz
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from medssl.demo import scanners, writers
from medssl.demo.lesions import KINDS
from medssl.demo.patients import PARTIAL, Patient, claim, each, plan
from medssl.errors import UserError
from medssl.progress import bar
from medssl.workspace import write_text

RECIPE = 1  # counts up when other pixels would be made
SUFFIXES = ("T1w", "T2w")
USE = 3  # keeps their chance apart from that of the patients in one contrast
README = """\
VIRTUAL PATIENTS. No person was scanned for this.

{patients} patients in two contrasts made by medssl (recipe {recipe}, seed {seed}) from one average brain, the ICBM 152
T1 template in the nilearn package. All else is drawn by chance. In T1w a lesion is a "ring" (dark core, bright rim) or
"solid" (bright core, dark rim); in T2w all have a bright core, so that only T1w tells them apart, and whoever tells T2w
from T1w must know what a lesion is. labels.csv has patient and lesion.

They are there to show and test software. What a method scores here is no evidence of what it does for people.
"""


def make_virtual_contrasts(folder: Path, patients: int = 240, seed: int = 0, jobs: int | None = None) -> Path:
    """Fill `folder`; patients that are there already are not made again. See `make_virtual_patients`.

    Raises:
        UserError: fewer than 2 patients, or the folder holds something else.
    """
    if patients < len(KINDS):
        raise UserError(f"{patients} virtual patients are too few", "patients", "Ask for at least 2.")
    folder = Path(folder)
    claim(folder, README.format(patients=patients, recipe=RECIPE, seed=seed))
    everyone = plan(patients, seed)
    todo = [patient for patient in everyone if not subject(patient, folder).exists()]
    with bar("making virtual patients", patients, done=patients - len(todo)) as progress:
        for _ in each(make_patient, todo, folder, seed, jobs or os.cpu_count() or 1):
            progress.advance()
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    write_text(folder / "labels.csv", "patient,lesion\n" + "".join(f"{p.name},{p.kind}\n" for p in everyone))
    return folder


def make_patient(patient: Patient, folder: Path, seed: int) -> None:
    """Both contrasts of one patient, first beside the folder's contents, then into place."""
    rng = np.random.default_rng([seed, USE, patient.number])
    fresh = folder / PARTIAL / patient.name
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "anat").mkdir(parents=True)
    for suffix, scan in zip(SUFFIXES, scanners.scan_contrasts(patient.scanner, patient.kind, rng), strict=True):
        writers.write_nifti(fresh / "anat" / f"sub-{patient.name}_{suffix}.nii.gz", scan.voxels, scan.affine)
    fresh.replace(subject(patient, folder))


def subject(patient: Patient, folder: Path) -> Path:
    return folder / f"sub-{patient.name}"
