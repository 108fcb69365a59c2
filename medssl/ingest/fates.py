"""The verdict on every file of a run."""

from __future__ import annotations

from medssl.ingest.records import File


class Fates:
    """The verdict on every file of this run. A file that gave any scan is accepted."""

    def __init__(self, found: list[File]) -> None:
        self.files = {f.id: f for f in found}
        self.status: dict[str, tuple[str, str, str]] = {}  # file id -> status, code, scan

    def accept(self, files: list[File], scan: str) -> None:
        for file in files:
            known = self.status.get(file.id, ("", "", ""))
            several = known[0] == "accepted" and known[2] != scan  # one file may hold many scans
            self.status[file.id] = ("accepted", "", "" if several else scan)

    def reject(self, files: list[File], code: str) -> None:
        for file in files:
            if self.status.get(file.id, ("", "", ""))[0] != "accepted":
                self.status[file.id] = ("rejected", code, "")

    def ignore(self, file: File, code: str) -> None:
        self.status[file.id] = ("ignored", code, "")
