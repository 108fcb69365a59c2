"""The verdict on every file of a run."""

from __future__ import annotations

from collections.abc import Iterable

from medssl.ingest.records import File


class Fates:
    """The verdict on every file of this run. A file that gave any scan is accepted.

    Attributes:
        files: all files, by id. An archive whose members are taken is none of them; its members are.
        status: (status, code, scan) by file id; the scan is empty where a file holds several, which `several` lists.
        opened: ids of those archives.
    """

    def __init__(self, found: list[File]) -> None:
        self.files = {f.id: f for f in found}
        self.status: dict[str, tuple[str, str, str]] = {}
        self.several: dict[str, list[str]] = {}
        self.opened: list[str] = []

    def accept(self, files: list[File], scan: str) -> None:
        verdict = ("accepted", "", scan)
        for file in files:
            known = self.status.get(file.id, ("", "", ""))
            if known[0] != "accepted" or known[2] == scan:
                self.status[file.id] = verdict
                continue
            scans = self.several.setdefault(file.id, [known[2]])  # one file may hold many scans
            if scan not in scans[-1:]:
                scans.append(scan)
            self.status[file.id] = ("accepted", "", "")

    def reject(self, files: list[File], code: str) -> None:
        verdict = ("rejected", code, "")
        for file in files:
            if self.status.get(file.id, ("", "", ""))[0] != "accepted":
                self.status[file.id] = verdict

    def ignore(self, file: File, code: str) -> None:
        self.status[file.id] = ("ignored", code, "")

    def open(self, archive: File, members: Iterable[File]) -> None:
        """The archive counts as a folder: its members stand in its place."""
        del self.files[archive.id]
        self.opened.append(archive.id)
        self.files.update((member.id, member) for member in members)

    def scans(self) -> set[str]:
        """All scans that this run's files gave."""
        single = {scan for _, _, scan in self.status.values() if scan}
        return single.union(*self.several.values())

    def withdraw(self, refused: dict[str, str]) -> None:
        """Scans that were accepted and are not any more, with the code why; their files are rejected with them."""
        for file, (status, _, scan) in [*self.status.items()]:
            if status != "accepted":
                continue
            left = [s for s in self.several.get(file, [scan]) if s not in refused]
            if left:
                if file in self.several:
                    self.several[file] = left
                continue
            self.status[file] = ("rejected", refused[self.several.pop(file, [scan])[0]], "")
