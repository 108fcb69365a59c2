"""Where cohorts, encoders and experiments live on disk. Nothing else in medssl puts paths together.

WORKSPACE/
  secret               key of all pseudonyms: mode 0600, never copied into a cohort
  cohorts/NAME/        catalog.sqlite, arrays/, samples/, split.json
  encoders/KEY/        checkpoint.safetensors, history.jsonl, resume state
  features/            embeddings, one file per (encoder, View)
  experiments/NAME/    config.yaml, split.json, budgets.json, results/*.parquet, jobs.sqlite, report.html, curve.png;
                       folds.json where it is cross-fitted; validation.json where recipes are tuned; others.json where
                       others teach
  readers/NAME.json    one session of a reader test each
  processes/NAME/      runs that the app started: command, log, state; for their owner only, since they name sources
  uploads/             label tables on their way into a cohort; for their owner only
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medssl.errors import UserError

DEFAULT = "medssl_workspace"


class Workspace:
    """A folder that holds everything medssl makes.

    Args:
        path: the folder; default `$MEDSSL_WORKSPACE`, else `./medssl_workspace`. Made when something is first written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path or os.environ.get("MEDSSL_WORKSPACE") or DEFAULT).expanduser().resolve()
        self._secret: bytes | None = None  # read once: pseudonyms are made by the hundred thousand
        if self.path.exists() and not self.path.is_dir():
            raise UserError("the workspace is a file, not a folder", str(self.path), "Name a folder with --workspace.")

    def cohort(self, name: str) -> Path:
        return self.path / "cohorts" / name

    def encoder(self, key: str) -> Path:
        return self.path / "encoders" / key

    def experiment(self, name: str) -> Path:
        return self.path / "experiments" / name

    def process(self, name: str) -> Path:
        return self.path / "processes" / name

    def upload(self, name: str) -> Path:
        return self.path / "uploads" / name

    def features(self, key: str) -> Path:
        return self.path / "features" / f"{key}.npy"

    def reader(self, name: str) -> Path:
        return self.path / "readers" / f"{name}.json"

    def cohorts(self) -> list[Path]:
        return sorted(p.parent for p in (self.path / "cohorts").glob("*/catalog.sqlite"))

    def experiments(self) -> list[Path]:
        return sorted(p.parent for p in (self.path / "experiments").glob("*/config.yaml"))

    def processes(self) -> list[Path]:
        return sorted(p.parent for p in (self.path / "processes").glob("*/process.json"))

    def encoders(self) -> list[Path]:
        return sorted(p.parent for p in (self.path / "encoders").glob("*/history.jsonl"))

    def readers(self) -> list[Path]:
        return sorted((self.path / "readers").glob("*.json"))

    @contextmanager
    def passing(self) -> Iterator[Path]:
        """A folder of the workspace that is gone when the block ends: for scans that are looked at once."""
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".passing-") as name:
            yield Path(name)

    def secret(self) -> bytes:
        """The key of all pseudonyms in this workspace, made on first use with mode 0600."""
        if self._secret is not None:
            return self._secret
        path = self.path / "secret"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".secret.{os.getpid()}")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
            try:
                os.link(fresh, path)  # atomic, and the first of two processes wins
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        self._secret = bytes.fromhex(path.read_text().strip())
        return self._secret

    def pseudonym(self, kind: str, *parts: str, length: int = 16) -> str:
        """Keyed, irreversible name: the first `length` hex digits of HMAC-SHA256 over `kind` and `parts`."""
        message = "\x1f".join((kind, *parts)).encode()
        return hmac.new(self.secret(), message, hashlib.sha256).hexdigest()[:length]


def data_folder() -> Path | None:
    """Where shipped configs look for scans: `$MEDSSL_DATA`, else `../shared/data`; None where neither exists."""
    named = os.environ.get("MEDSSL_DATA")
    folder = Path(named) if named else Path("..") / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


@contextmanager
def lock(folder: Path, doing: str, fix: str) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Args:
        folder: made where it is missing.
        doing: what the holder does with it, for the error ("training into").
        fix: what the second process can do.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"process {file.read().strip() or '?'} is {doing} this folder",
                str(folder),
                fix,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")  # several machines may share the folder
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(folder: Path) -> str:
    """Who holds the folder by `lock`, as "1234 on HOST"; empty where nobody does, or the process has died."""
    try:
        said = (folder / "lock").read_text().strip()
    except OSError:
        return ""
    number, _, host = said.partition(" on ")
    if not number.isdigit() or (host == os.uname().nodename and not _alive(int(number))):
        return ""
    return said


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    fresh = Path(name)
    try:
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.chmod(0o666 & ~_umask())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, oldest first; a last line that a crash cut off is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def digest(value: Any, length: int = 16) -> str:
    """Hash of any JSON-able value, the same for the same content whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def code_revision(*rooms: str) -> str:
    """Hash of the source text of these rooms: results are not reused across a change of the code behind them."""
    root = Path(__file__).parent
    total = hashlib.sha256()
    for room in sorted(rooms):
        place = root / room
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            total.update(file.relative_to(root).as_posix().encode())
            total.update(file.read_bytes())
    return total.hexdigest()[:12]


def library_versions(*packages: str) -> dict[str, str]:
    """Of those of these distributions that are installed: what they compute is not reused under another version."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
