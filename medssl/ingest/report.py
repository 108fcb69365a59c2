"""What an ingest reports: counts that add up, findings, and why files were ignored."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.ingest import findings
from medssl.ingest.fates import Fates

LISTED = 20  # rejected files that are named in the text


@dataclass
class IngestReport:
    """What became of every file that was found: `found == accepted + rejected + ignored`.

    Attributes:
        cohort: the cohort's folder.
        findings: [{"code", "severity", "count", "sentence", "todo"}], the most serious first.
        ignored_as: files ignored, by code.
        rejected_files: [{"file", "code"}] with keyed ids.
        rejected_paths: the path of each, by its keyed id: for a person on a terminal, and never in `as_json`.
        labels: what the label table gave, or None where there was none.
    """

    cohort: str
    found: int
    accepted: int
    rejected: int
    ignored: int
    scans: int
    patients: int
    findings: list[dict[str, Any]] = field(default_factory=list)
    ignored_as: dict[str, int] = field(default_factory=dict)
    labels: dict[str, Any] | None = None
    rejected_files: list[dict[str, str]] = field(default_factory=list)
    rejected_paths: dict[str, str] = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "cohort": self.cohort,
            "files": {
                "found": self.found,
                "accepted": self.accepted,
                "rejected": self.rejected,
                "ignored": self.ignored,
            },
            "scans": self.scans,
            "patients": self.patients,
            "findings": self.findings,
            "ignored": self.ignored_as,
            "labels": self.labels,
            "rejected_files": self.rejected_files,
        }

    def lines(self, on_terminal: bool = False) -> list[str]:
        """For a person to read; with the paths of rejected files on a terminal, with their keyed ids elsewhere."""
        text = [
            f"{self.found} files found = {self.accepted} accepted + {self.rejected} rejected + {self.ignored} ignored; "
            f"{self.scans} scans of {self.patients} patients"
        ]
        text += [f"  {f['severity']}: {f['sentence']} ({f['count']}) {f['todo']}" for f in self.findings]
        text += [f"  ignored: {findings.finding(code).sentence} ({n})" for code, n in self.ignored_as.items()]
        for known in self.rejected_files[:LISTED]:
            where = self.rejected_paths[known["file"]] if on_terminal else known["file"]
            text.append(f"  rejected ({known['code']}): {where}")
        if len(self.rejected_files) > LISTED:
            text.append(f"  {len(self.rejected_files) - LISTED} more rejected: see ingest_report.csv in the cohort")
        if self.labels:
            rows, of, scans = (self.labels[name] for name in ("rows", "table_rows", "scans"))
            targets = ", ".join(self.labels["targets"]) or "none"
            text.append(f"  labels: {rows} of {of} rows fit, for {scans} scans; targets: {targets}")
            if note := self.labels.get("note"):
                text.append(f"  {note}")
        return text


def make_report(db: sqlite3.Connection, folder: Path, fates: Fates, labels: dict[str, Any] | None) -> IngestReport:
    status = Counter(s for s, _, _ in fates.status.values())
    ignored = Counter(code for s, code, _ in fates.status.values() if s == "ignored")
    order = {"error": 0, "warning": 1, "info": 2}
    rows = db.execute(
        "SELECT code, severity, count(*), min(sentence), min(todo) FROM findings GROUP BY code, severity"
    ).fetchall()
    listed = [dict(zip(("code", "severity", "count", "sentence", "todo"), row, strict=True)) for row in rows]
    listed.sort(key=lambda f: (order[f["severity"]], -f["count"], f["code"]))
    scans, patients = db.execute("SELECT count(*), count(DISTINCT patient) FROM scans").fetchone()
    return IngestReport(
        cohort=str(folder),
        found=len(fates.files),
        accepted=status["accepted"],
        rejected=status["rejected"],
        ignored=status["ignored"],
        scans=scans,
        patients=patients,
        findings=listed,
        ignored_as=dict(ignored.most_common()),
        labels=labels,
        rejected_files=[{"file": file, "code": code} for file, (s, code, _) in fates.status.items() if s == "rejected"],
        rejected_paths={file: fates.files[file].path for file, (s, _, _) in fates.status.items() if s == "rejected"},
    )
