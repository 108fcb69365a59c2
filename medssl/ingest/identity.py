"""Keyed names, and the controlled vocabularies through which free text may enter the catalog."""

from __future__ import annotations

import re

from medssl.workspace import Workspace

GENERIC_IDS = frozenset(  # what de-identifiers and consoles write for everybody
    """
    none null nan na unknown unk anon anonym anonymous anonymized anonymised anonymize anonymouspatient
    anonymizedpatient noname noid test testpatient phantom patient patientid deidentified removed redacted
    """.split()
)

MODALITIES = frozenset(  # defined terms of Modality (PS3.3 C.7.3.1.1.1) that stand for images
    """
    CT MR PT NM US IVUS CR DX RF XA MG IO PX OP OPT OPM ES XC GM SM EC SC OT BMD IVOCT RTIMAGE
    """.split()
)

VENDORS = {  # what the manufacturer's name contains -> the name in the catalog; the first that fits
    "siemens": "Siemens", "general electric": "GE", "ge medical": "GE", "ge health": "GE", "gehc": "GE",
    "philips": "Philips", "picker": "Philips", "marconi": "Philips", "toshiba": "Canon", "canon": "Canon",
    "hitachi": "Fujifilm", "fuji": "Fujifilm", "hologic": "Hologic", "lorad": "Hologic", "agfa": "Agfa",
    "carestream": "Carestream", "kodak": "Carestream", "samsung": "Samsung", "medison": "Samsung",
    "konica": "Konica Minolta", "shimadzu": "Shimadzu", "hyperfine": "Hyperfine", "united imaging": "United Imaging",
    "uih": "United Imaging", "bruker": "Bruker", "neusoft": "Neusoft", "mindray": "Mindray", "varian": "Varian",
    "elekta": "Elekta", "esaote": "Esaote", "swissray": "Swissray", "planmeca": "Planmeca", "olympus": "Olympus",
    "topcon": "Topcon", "zeiss": "Zeiss", "heidelberg": "Heidelberg Engineering", "aloka": "Fujifilm",
    "sonosite": "Fujifilm", "supersonic": "Hologic",
}  # fmt: skip

BODY_PARTS = {  # whole words of BodyPartExamined (PS3.16 Annex L) -> the term in the catalog; the first that fits
    "CHESTABDPELVIS": "chest, abdomen and pelvis", "CHESTABDOMEN": "chest and abdomen",
    "ABDOMENPELVIS": "abdomen and pelvis",
    "CHEST": "chest", "THORAX": "chest", "LUNG": "lung", "LUNGS": "lung", "HEART": "heart", "CARDIAC": "heart",
    "HEADNECK": "head and neck", "HEAD": "head", "BRAIN": "brain", "SKULL": "skull", "NECK": "neck",
    "ABDOMEN": "abdomen", "LIVER": "liver", "KIDNEY": "kidney", "PANCREAS": "pancreas", "PELVIS": "pelvis",
    "PROSTATE": "prostate",
    "BREAST": "breast", "CSPINE": "cervical spine", "TSPINE": "thoracic spine", "LSPINE": "lumbar spine",
    "SPINE": "spine", "SHOULDER": "shoulder", "ELBOW": "elbow", "WRIST": "wrist", "HAND": "hand", "HIP": "hip",
    "KNEE": "knee", "ANKLE": "ankle", "FOOT": "foot", "EXTREMITY": "extremity", "LEG": "leg", "ARM": "arm",
    "EYE": "eye", "RETINA": "eye", "COLON": "colon", "SKIN": "skin", "WHOLEBODY": "whole body", "TEETH": "teeth",
    "JAW": "jaw", "THYROID": "thyroid", "HIPPOCAMPUS": "brain",
}  # fmt: skip


class Keys:
    """The keyed names of one workspace. The same text gives the same name; nobody gets back without the secret."""

    def __init__(self, workspace: Workspace) -> None:
        self._pseudonym = workspace.pseudonym

    def file(self, root: str, name: str) -> str:
        return "f" + self._pseudonym("file", root, name)

    def days(self, patient: str) -> int:
        """By how much the dates of this patient are shifted: whole weeks, up to ten years either way, never none."""
        weeks = int(self._pseudonym("shift", patient), 16) % 1040 - 520
        return 7 * (weeks if weeks < 0 else weeks + 1)

    def digits(self, kind: str, text: str) -> str:
        """32 hex digits."""
        return self._pseudonym(kind, text, length=32)

    def place(self, path: str) -> str:
        """A path as it may stand in logs: of a source, of a label table, of a file that nobody has listed yet."""
        return "d" + self._pseudonym("place", path)

    def scan(self, *parts: str) -> str:
        return "s" + self._pseudonym("scan", *parts)

    def patient(self, issuer: str, patient_id: str) -> str:
        """`issuer`: of the id, or the institution; empty where neither is known."""
        return "p" + self._pseudonym("patient", issuer, patient_id)

    def patient_of(self, kind: str, *parts: str) -> str:
        """A patient known only by a group, an exam or a file."""
        return "p" + self._pseudonym("patient of", kind, *parts)

    def group(self, name: str) -> str:
        return "g" + self._pseudonym("group", name)

    def exam(self, *parts: str) -> str:
        return "e" + self._pseudonym("exam", *parts)

    def series(self, *parts: str) -> str:
        return "r" + self._pseudonym("series", *parts)

    def name(self, kind: str, text: str) -> str:
        """Under which a label table may call a scan: kind is path, name, folder, patient or uid."""
        return self._pseudonym("name", kind, text)

    def source(self, *parts: str) -> str:
        return self._pseudonym("source", *parts)


def is_generic(patient_id: str) -> bool:
    """Empty, or one of the words that de-identifiers write for everybody, however they are spaced."""
    word = re.sub(r"[\W_]+", "", patient_id.lower())
    return not word or word in GENERIC_IDS or set(word) in ({"0"}, {"x"}, {"9"})


def modality(text: str) -> str:
    text = text.strip().upper()
    return text if text in MODALITIES else "other" if text else "unknown"


def vendor(text: str) -> str:
    low = text.strip().lower()
    if low == "ge":
        return "GE"
    return next((name for part, name in VENDORS.items() if part in low), "other" if low else "unknown")


def body_part(text: str) -> str:
    words = re.findall(r"[A-Z]+", text.upper())
    if not words:
        return "unknown"
    words = ["".join(words), *words]
    return next((name for part, name in BODY_PARTS.items() if part in words), "other")


def file_names(keys: Keys, name: str) -> list[tuple[str, str]]:
    """(kind, keyed name) of a file: its path, with and without ending, its own name likewise, and its folder."""
    folder, _, base = name.rpartition("/")
    pairs = [("path", name), ("path", without_ending(name)), ("name", base), ("name", without_ending(base))]
    return [(kind, keys.name(kind, text)) for kind, text in dict.fromkeys(pairs + folder_pairs(folder))]


def folder_pairs(folder: str) -> list[tuple[str, str]]:
    return [("folder", text) for text in dict.fromkeys((folder, folder.rpartition("/")[2])) if text]


def without_ending(name: str) -> str:
    """Without `.nii.gz`, `.dcm`, `.jpg` and the like; a dot before anything longer is part of the name."""
    endings = r"(\.nii|\.hdr|\.img)?\.(gz|nii|hdr|img|dcm|dicom|ima|jpe?g|jpe|png|tiff?|npz|bmp)$"
    return re.sub(endings, "", name, flags=re.IGNORECASE)
