"""Runs that nobody has to sit beside: `medssl ingest`, `label` and `run` as processes of their own.

Each has a folder in the workspace, so that neither a closed browser nor a restarted app loses it:

WORKSPACE/processes/NAME/  process.json (what was started, pid and its start time), log.txt, answer.txt, config.yaml;
                           `code` once it has ended, `stop` where it was asked to

A small shell keeps it: it waits for medssl and writes down the exit code. Whether it still runs is asked of the system,
by pid *and* start time: after a crash, or a restart of the machine, a pid is given to another program.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from medssl.errors import UserError
from medssl.workspace import Workspace, lock, write_json, write_text

Status = Literal["running", "stopping", "elsewhere", "done", "stopped", "failed", "lost"]
ACTIVE = ("running", "stopping", "elsewhere")
KEEPER = 'trap : TERM INT HUP; "$@"; code=$?; echo $code >"$0.new"; mv "$0.new" "$0"'
CLOCK_S = 10.0  # by which the system may be of another opinion about a start time, after its clock was set
TAIL = 64 << 10  # bytes of a log that are read
SAID = "Error: "
# A place that may name a patient, as a pipe shows it: it tells a reader nothing.
KEYED = r"^path d[0-9a-f]{16} \(.*?\): "


@dataclass(frozen=True)
class Process:
    """One run of a command, as its folder tells it.

    Attributes:
        folder: its own in the workspace.
        kind: `ingest`, `label`, `pretrain`, `estimate` or `run`.
        about: the cohort, encoder or experiment that it works on.
        arguments: of `medssl`.
        begun: when it was started (seconds since 1970), and `created` the start time that the system knows.
        pid: of the shell that keeps it, on `host`.
    """

    folder: Path
    kind: str
    about: str
    arguments: list[str]
    begun: float
    host: str
    pid: int
    created: float

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def command(self) -> str:
        """As it is typed in a terminal."""
        return command_line(self.arguments)

    @property
    def status(self) -> Status:
        """`lost`: it is gone and left no exit code, so the machine went down, or all of it was killed."""
        stop = (self.folder / "stop").exists()
        if self.host != os.uname().nodename:
            return "elsewhere" if self.code is None else self._ended(stop)
        if _is_alive(self.pid, self.created):
            return "stopping" if stop else "running"
        return self._ended(stop)

    @property
    def code(self) -> int | None:
        """Of its end, else None."""
        try:
            return int((self.folder / "code").read_text())
        except (OSError, ValueError):
            return None

    @property
    def error(self) -> tuple[str, str]:
        """What went wrong and what to do, in sentences; both empty where it did not fail."""
        status = self.status
        if status == "lost":
            return "It ended without a word: it was killed, or the machine went down.", "What was done is kept: resume."
        if status != "failed":
            return "", ""
        said, fix = _last_error(self.log(None))
        code = self.code or 0
        if said:
            return said, fix
        if code > 128:
            what = f"The system ended it (signal {code - 128}), perhaps for lack of memory."
            return what, "What was done is kept: resume, or make the run smaller."
        return f"It ended with exit code {code} and did not say why.", "Run its command in a terminal to see more."

    def log(self, lines: int | None = 30) -> str:
        """The last lines of what it said on standard error; nothing in it names a patient."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        kept = text.rstrip().splitlines()
        return "\n".join(kept if lines is None else kept[-lines:])

    def answer(self) -> dict[str, Any] | None:
        """The JSON object that it printed, or None where there is none (yet)."""
        try:
            found = json.loads((self.folder / "answer.txt").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def stop(self) -> None:
        """Ask it to end. Pretraining saves its state first; a second time ends it at once."""
        if self.status not in ("running", "stopping"):
            return
        (self.folder / "stop").touch()
        try:
            kept = psutil.Process(self.pid)
            for _ in range(20):  # the keeper may not have begun yet
                if children := kept.children():
                    break
                time.sleep(0.1)
            for child in children:
                child.terminate()
        except psutil.NoSuchProcess:
            pass  # it has just ended

    def forget(self) -> None:
        """Take an ended one from the list; what it made stays."""
        if self.status not in ACTIVE:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self, stop: bool) -> Status:
        if self.code is None:
            return "stopped" if stop else "lost"
        return "done" if self.code == 0 else "stopped" if stop else "failed"


def command_line(arguments: list[str]) -> str:
    """`medssl` with these arguments, quoted for a terminal."""
    return shlex.join(["medssl", *(a for a in arguments if a != "--json")])


def start(workspace: Workspace, kind: str, about: str, arguments: list[str], config: str | None = None) -> Process:
    """Start `medssl ARGUMENTS` as a process of its own, which outlives this one.

    Args:
        kind, about: name it; one at a time.
        arguments: of `medssl`; `{config}` stands for the file with `config`.
        config: YAML that is kept beside the log.

    Raises:
        UserError: it runs already.
    """
    folder = workspace.process(f"{kind}-{about}")
    with _only_one(folder):
        (folder / "log.txt").unlink(missing_ok=True)
        if config is not None:
            write_text(folder / "config.yaml", config)
            (folder / "config.yaml").chmod(0o600)
        filled = [str(folder / "config.yaml") if a == "{config}" else a for a in arguments]
        return _launch(folder, kind, about, filled)


def resume(process: Process) -> Process:
    """Start the same command again: it goes on where it stopped.

    Raises:
        UserError: it runs already.
    """
    with _only_one(process.folder):
        with (process.folder / "log.txt").open("a") as log:
            log.write("\nResumed.\n")
        return _launch(process.folder, process.kind, process.about, process.arguments)


def find(workspace: Workspace, name: str) -> Process | None:
    """The process of that name (`run-demo`), or None."""
    return _read(workspace.process(name))


def processes(workspace: Workspace) -> list[Process]:
    """All that are known, the newest first."""
    found = [p for p in map(_read, workspace.processes()) if p is not None]
    return sorted(found, key=lambda p: p.begun, reverse=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold a process's folder while it is started.

    Raises:
        UserError: another is starting it, or it runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with lock(folder, "starting a run from", "It runs already: reload the page."):
        known = _read(folder)
        if known is not None and known.status in ACTIVE:
            raise _already_runs(known)
        yield


def _already_runs(known: Process) -> UserError:
    when = datetime.fromtimestamp(known.begun).strftime("%H:%M on %d %B")
    fix = "Nothing was started a second time. Follow it on this page, or stop it first."
    return UserError(f"'{known.about}' runs already, since {when}", known.name, fix)


def _launch(folder: Path, kind: str, about: str, arguments: list[str]) -> Process:
    for old in ("process.json", "code", "stop", "answer.txt"):
        (folder / old).unlink(missing_ok=True)
    command = ["sh", "-c", KEEPER, str(folder / "code"), sys.executable, "-m", "medssl.cli", *arguments]
    with (folder / "log.txt").open("ab") as log, (folder / "answer.txt").open("wb") as answer:
        begun = time.time()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer, stderr=log, start_new_session=True)
    created = psutil.Process(child.pid).create_time()
    threading.Thread(target=child.wait, daemon=True).start()  # else its entry in the system's table would stay
    process = Process(folder, kind, about, arguments, begun, os.uname().nodename, child.pid, created)
    write_json(folder / "process.json", {k: v for k, v in asdict(process).items() if k != "folder"})
    (folder / "process.json").chmod(0o600)
    return process


def _read(folder: Path) -> Process | None:
    try:
        return Process(folder, **json.loads((folder / "process.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, half written, or of another version
        return None


def _is_alive(pid: int, created: float) -> bool:
    try:
        found = psutil.Process(pid)
        return abs(found.create_time() - created) < CLOCK_S and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _last_error(log: str) -> tuple[str, str]:
    """The last message of the command line in a log, as sentence and way on."""
    lines = log.splitlines()
    at = next((i for i in reversed(range(len(lines))) if lines[i].startswith(SAID)), None)
    if at is None:
        return "", ""
    what = re.sub(KEYED, "", lines[at].removeprefix(SAID)).strip().rstrip(".")
    fix = lines[at + 1].strip().removeprefix("To do:").strip() if at + 1 < len(lines) else ""
    return what[:1].upper() + what[1:] + ".", fix
