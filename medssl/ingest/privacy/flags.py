"""Scans that may identify a patient by what they show: text in their pixels, faces."""

from __future__ import annotations

import numpy as np

from medssl.ingest.privacy.about import About
from medssl.ingest.privacy.burned_in import has_text
from medssl.ingest.records import Scan

# Where text is usual; `unknown` are photographs of screens and exports from the PACS: PNG, JPEG and TIFF.
TEXTUAL = frozenset({"US", "SC", "XA", "RF", "ES", "CR", "DX", "MG", "OT", "XC", "other", "unknown"})
HEADS = frozenset({"head", "brain", "skull", "head and neck", "eye", "jaw", "teeth", "whole body"})
SECTIONS = frozenset({"CT", "MR", "PT"})
FACE_MM = (120.0, 120.0, 30.0)  # what a volume must span, the longest side first, for a face to be told from it


def of_header(found: About) -> list[str]:
    """Codes that the header alone gives."""
    return ["burned_in_tag"] if found.burned_in == "YES" else []


def of_scan(scan: Scan) -> list[str]:
    """Codes that need the scan: `burned_in_pixels`, `face_bearing`, `face_possible`.

    A face is expected in volumes (CT, MR, PET) of the head, and possible where a volume does not say what it shows,
    unless the header says that there are no recognizable features.
    """
    codes = []
    if scan.kind in ("image", "colour") and scan.modality in TEXTUAL and has_text(scan.array):
        codes.append("burned_in_pixels")
    if scan.kind in ("volume", "colour_volume") and scan.attributes.get("recognizable_features") != "no":
        head, unsaid = scan.body_part in HEADS, scan.body_part in ("unknown", "other")
        if (scan.modality in SECTIONS or scan.modality == "unknown") and (head or unsaid) and _spans_a_face(scan):
            codes.append("face_bearing" if head else "face_possible")
    return codes


def _spans_a_face(scan: Scan) -> bool:
    if scan.spacing is None:
        return True
    sides = sorted(np.multiply(scan.array.shape[-3:], scan.spacing), reverse=True)
    return all(side >= least for side, least in zip(sides, FACE_MM, strict=True))
