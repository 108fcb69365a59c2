"""BIDS: what the path of a file says (Brain Imaging Data Structure 1.9, "Common principles" and "Derivatives").

A file counts as one of BIDS where it lies below a folder `sub-LABEL` and its name begins with that `sub-LABEL_`. All of
this is decided by the path alone, so that each file can be judged by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from medssl.ingest.identity import Keys, without_ending
from medssl.ingest.records import File

SUBJECT, SESSION = re.compile(r"sub-[A-Za-z0-9+]+"), re.compile(r"ses-[A-Za-z0-9+]+")
MR_SUFFIXES = frozenset(
    """
    T1w T2w FLAIR PDw PDT2 PD T2star T2starw inplaneT1 inplaneT2 angio T1rho T1map T2map T2starmap R1map R2map R2starmap
    PDmap MTRmap MTsat MTVmap MWFmap UNIT1 MESE MEGRE VFA IRT1 MP2RAGE MPM MTS MTR Chimap S0map M0map bold cbv sbref
    phase dwi epi magnitude magnitude1 magnitude2 phasediff phase1 phase2 fieldmap asl m0scan svs mrsi mrsref
    TB1DAM TB1EPI TB1AFI TB1TFL TB1RFM TB1SRGE TB1map RB1COR RB1map
    """.split()
)
MODALITIES = {**dict.fromkeys(MR_SUFFIXES, "MR"), "ct": "CT", "pet": "PT"}
MASK_SUFFIXES = ("roi", "dseg", "mask")  # the first is taken where a scan has several
DERIVED_ENTITIES = frozenset("space desc label res den hemi atlas seg scale cohort".split())
SIDECARS = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec")
DATASET_FILES = frozenset("dataset_description.json participants.tsv participants.json".split())


@dataclass(frozen=True)
class Place:
    """What a path says.

    Attributes:
        dataset: the folder above the subject's, and above `derivatives`.
        session: empty where the data set has none.
        entities: of the file's name, but for subject, session and those that derivatives add.
        space: of a derivative; empty for what lies as it was scanned.
    """

    dataset: str
    subject: str
    session: str
    suffix: str
    space: str
    derivative: bool
    entities: tuple[str, ...] = field(default=())

    @property
    def is_mask(self) -> bool:
        return self.suffix in MASK_SUFFIXES


@lru_cache(maxsize=4096)
def place(file: File) -> Place | None:
    """None where the path is none of BIDS."""
    *folders, base = (file.root, *file.name.split("/")) if file.root != file.name else (file.name,)
    at = next((i for i, part in enumerate(folders) if SUBJECT.fullmatch(part)), None)
    if at is None or not base.startswith(f"{folders[at]}_"):
        return None
    *pairs, suffix = without_ending(base).split("_")
    named = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    session = next((part for part in folders[at + 1 :] if SESSION.fullmatch(part)), "")
    if not session and "ses" in named:
        session = f"ses-{named['ses']}"
    above = folders[:at]
    derivative = "derivatives" in above
    return Place(
        dataset="/".join(above[: above.index("derivatives")] if derivative else above),
        subject=folders[at],
        session=session,
        suffix=suffix,
        space=named.get("space", ""),
        derivative=derivative,
        entities=tuple(f"{k}-{v}" for k, v in sorted(named.items()) if k not in DERIVED_ENTITIES | {"sub", "ses"}),
    )


def owners(file: File, keys: Keys) -> tuple[str, str, list[tuple[str, str]]] | None:
    """(patient key, exam key, keyed names) of a file in a BIDS data set, or None.

    Labels are comparable within one data set only, so its folder is the issuer.
    """
    where = place(file)
    if where is None:
        return None
    issuer = f"bids {where.dataset}"
    names = [("patient", keys.name("patient", text)) for text in (where.subject, where.subject.removeprefix("sub-"))]
    names.append(("bids", keys.name("bids", _same_run(where))))
    exam = keys.exam("bids", where.dataset, where.subject, where.session)
    return keys.patient(issuer, where.subject), exam, names


def mask_name(file: File, keys: Keys) -> str | None:
    """The keyed name of the scans that a mask may belong to: those of the same subject, session and run."""
    where = place(file)
    return keys.name("bids", _same_run(where)) if where is not None and where.is_mask else None


def is_mask(file: File) -> bool:
    where = place(file)
    return where is not None and where.is_mask


def mask_rank(file: File) -> int:
    """The lowest is used where several masks belong to one scan: regions before tissues before the brain."""
    where = place(file)
    return MASK_SUFFIXES.index(where.suffix) if where is not None and where.is_mask else 0


def is_in_another_space(file: File) -> bool:
    where = place(file)
    return where is not None and bool(where.space)


def modality_and_suffix(file: File) -> tuple[str, str]:
    """In the words of the catalog; the suffix only where BIDS knows it."""
    where = place(file)
    if where is None or where.suffix not in MODALITIES:
        return "unknown", ""
    return MODALITIES[where.suffix], where.suffix


def is_derived_image(file: File) -> bool:
    """An image that was computed from others; masks among them are used."""
    where = place(file)
    if where is None:
        return "derivatives" in file.name.split("/")[:-1]
    return where.derivative and not where.is_mask


def is_sidecar(file: File) -> bool:
    base = file.name.rpartition("/")[2]
    return base in DATASET_FILES or (base.endswith(SIDECARS) and place(file) is not None)


def _same_run(where: Place) -> str:
    return "/".join((where.dataset, where.subject, where.session, *where.entities))
