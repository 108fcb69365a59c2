import os
import stat
import subprocess
import sys

import pytest

from medssl.errors import UserError
from medssl.workspace import Workspace, atomic, code_revision, digest, holder, lock, write_json


def test_secret_is_made_once_and_kept_private(workspace):
    first = workspace.secret()
    assert len(first) == 32 and workspace.secret() == first == Workspace(workspace.path).secret()
    assert stat.S_IMODE((workspace.path / "secret").stat().st_mode) == 0o600


def test_two_processes_agree_on_the_secret(workspace):
    code = f"from medssl.workspace import Workspace; print(Workspace({str(workspace.path)!r}).secret().hex())"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({run.communicate()[0] for run in runs}) == 1


def test_pseudonyms_depend_on_kind_parts_and_secret(workspace, tmp_path):
    name = workspace.pseudonym("patient", "site", "123")
    assert name == workspace.pseudonym("patient", "site", "123") and len(name) == 16
    # A short number stands in a random name by chance; a whole identifier can't.
    assert "patient-123" not in workspace.pseudonym("patient", "site", "patient-123")
    others = [("exam", "site", "123"), ("patient", "site1", "23"), ("patient", "site", "124")]
    assert name not in {workspace.pseudonym(*parts) for parts in others}
    assert name != Workspace(tmp_path / "other").pseudonym("patient", "site", "123")


def test_atomic_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic(path) as fresh:
        fresh.write_text("half")
        raise RuntimeError
    assert '"a": 1' in path.read_text() and [f.name for f in path.parent.iterdir()] == ["x.json"]


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_code_revision_covers_rooms_and_files():
    assert code_revision("metrics") != code_revision("metrics", "statistics") != code_revision("errors.py")


def test_a_file_as_workspace_is_refused(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="a file, not a folder"):
        Workspace(tmp_path / "f")


def test_a_folder_is_held_while_its_process_lives(tmp_path):
    assert holder(tmp_path) == ""
    with lock(tmp_path, "testing", "Wait."):
        assert holder(tmp_path) == f"{os.getpid()} on {os.uname().nodename}"
    assert holder(tmp_path) == ""
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "lock").write_text(f"{gone.pid} on {os.uname().nodename}")  # of a process that was killed
    assert holder(tmp_path) == ""
    (tmp_path / "lock").write_text(f"{gone.pid} on another-machine")
    assert holder(tmp_path) == f"{gone.pid} on another-machine"
