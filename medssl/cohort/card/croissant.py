"""Croissant metadata (MLCommons, format 1.0 with RAI 1.0) from a card and the cohort's figures.

Nothing is distributed by a cohort, so there is no `distribution`: record sets carry the figures inline. Keys are those
of the Croissant Format Specification 1.0 and the Croissant RAI Specification 1.0.
"""

from __future__ import annotations

from typing import Any

from medssl.cohort.card.figures import words
from medssl.cohort.card.markdown import Card
from medssl.cohort.summary import Summary, listed, product

CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip

RAI = {  # section of the card -> key, and whether it holds a list
    "Collection process": ("rai:dataCollection", False),
    "Preprocessing, cleaning, labeling": ("rai:dataPreprocessingProtocol", True),
    "Labels": ("rai:dataAnnotationProtocol", True),
    "Uses": ("rai:dataUseCases", True),
    "Limitations": ("rai:dataLimitations", True),
    "Biases": ("rai:dataBiases", True),
    "Social impact": ("rai:dataSocialImpact", False),
    "Personal and sensitive information": ("rai:personalSensitiveInformation", True),
    "Maintenance": ("rai:dataReleaseMaintenancePlan", False),
}
LICENSES = {  # Hugging Face's id -> SPDX's
    "apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-2-clause": "BSD-2-Clause", "cc0-1.0": "CC0-1.0", "pddl": "PDDL-1.0",
    "cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0", "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0",
}  # fmt: skip


def croissant(card: Card, summary: Summary) -> dict[str, Any]:
    """The JSON-LD object. What the card does not say is left out, not made up."""
    front = card.front
    size = f"{summary.scans:,} scans of {summary.patients:,} patients."
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": str(front.get("pretty_name") or card.title or summary.name),
        "description": " ".join(filter(None, (card.sections.get("", ""), size))),
        "license": _license(front),
        "keywords": [str(tag) for tag in front.get("tags") or []],
    }
    for key, name in (("url", "url"), ("citation", "citeAs"), ("version", "version"), ("date", "datePublished")):
        if front.get(key) is not None:
            found[name] = str(front[key])
    for heading, (key, many) in RAI.items():
        if text := card.sections.get(heading):
            found[key] = [text] if many else text
    if summary.rejected or summary.ignored:
        counts = {words(code): n for code, n in (summary.rejected | summary.ignored).items()}
        found["rai:dataCollectionMissingData"] = (
            f"{summary.files['rejected']:,} of {summary.files['found']:,} files were rejected at ingestion and "
            f"{summary.files['ignored']:,} ignored: {listed(counts, len(counts))}."
        )
    found["recordSet"] = [r for r in _record_sets(summary) if r["data"]]
    return {name: value for name, value in found.items() if value not in ("", [], None)}


def _license(front: dict[str, Any]) -> str:
    name = str(front.get("license") or "unknown")
    if name in LICENSES:
        return f"https://spdx.org/licenses/{LICENSES[name]}"
    return str(front.get("license_link") or front.get("license_name") or name)


def _record_sets(summary: Summary) -> list[dict[str, Any]]:
    parts = [
        {
            "what": part.name,
            "scans": part.scans,
            "patients": part.patients,
            "vendors": listed(part.vendors),
            "pixels": product(part.shape),
            "spacing_mm": product(part.spacing) or "none",
        }
        for part in summary.parts
    ]
    classes = [{"target": target, **row} for target, rows in summary.classes.items() for row in rows]
    left_out = [
        {"status": status, "reason": words(code), "files": n}
        for status, codes in (("rejected", summary.rejected), ("ignored", summary.ignored))
        for code, n in codes.items()
    ]
    return [
        _record_set("parts", "Scans by modality and kind; smallest and largest along each axis.", parts),
        _record_set("classes", "Scans and patients of each class of each target.", classes),
        _record_set("left_out", "Files that gave no scan, by reason.", left_out),
    ]


def _record_set(name: str, description: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": column.replace("_", " "),
            "dataType": "sc:Integer" if isinstance(value, int) else "sc:Text",
        }
        for column, value in (rows[0] if rows else {}).items()
    ]
    data = [{f"{name}/{column}": value for column, value in row.items()} for row in rows]
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "field": fields, "data": data,
    }  # fmt: skip
