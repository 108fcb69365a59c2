"""User errors: what went wrong, where, and what to do about it.

The command line prints these without a traceback; `UserError` ends with exit code 2, any other with 1.
No message may carry anything that identifies a patient. A path of scans or of their labels may do so: it goes into
`where`, as a `SourcePath`, which the command line shows on an interactive terminal alone.
"""

from __future__ import annotations


class SourcePath(str):
    """A path below a source, or of a label table: folders and files there are named after patients.

    Paths of workspaces, cohorts and configs are plain text: their users named them.
    """


class MedsslError(Exception):
    """Something that the program could not do, said in one sentence.

    Args:
        what: the problem, one sentence.
        where: the file, key or option that it is about; `str` of the error leaves out a `SourcePath`.
        fix: what the user can do now.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.__str__())

    def __str__(self) -> str:
        return self.text("a file or folder of the source" if isinstance(self.where, SourcePath) else self.where)

    def text(self, where: str) -> str:
        """The whole message, with its place written so."""
        text = f"{where}: {self.what}" if where else self.what
        return f"{text}\n  To do: {self.fix}" if self.fix else text

    def __reduce__(self):  # errors cross process borders (joblib), so they must survive pickling
        return type(self), (self.what, self.where, self.fix)


class UserError(MedsslError):
    """The input is at fault, not the program: exit code 2."""

    exit_code = 2


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """The known word that looks most like `word`, or an empty string where none does."""
    import difflib

    if word.isdigit():
        return ""
    close = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.6)
    return close[0] if close else ""


def unknown(kind: str, word: str, known: list[str] | tuple[str, ...], where: str = "") -> UserError:
    """The error for a name that does not exist, with the nearest one that does."""
    near = nearest(word, known)
    hint = f"Did you mean '{near}'? " if near else ""
    return UserError(f"unknown {kind} '{word}'", where, f"{hint}Known: {', '.join(sorted(map(str, known)))}.")
