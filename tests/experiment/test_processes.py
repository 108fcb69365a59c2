"""Detached runs: they outlive who started them, run once at a time, and tell how they ended."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from medssl.errors import UserError
from medssl.experiment import processes
from medssl.experiment.processes import find, resume, start


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Let a shell script stand for Python, so that a process lives as long as a test wants."""

    def write(script: str) -> None:
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o700)
        monkeypatch.setattr(processes.sys, "executable", str(file))

    return write


def wait(workspace, name: str, *, until, seconds: float = 20):
    """The process once its status is one of `until`."""
    for _ in range(int(20 * seconds)):
        found = find(workspace, name)
        if found is not None and found.status in until:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{name} is {found and found.status}, not {until}; log: {found and found.log()}")


def change(process, **values) -> None:
    """Write other values into what the folder says."""
    file = process.folder / "process.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_it_ends_well_and_its_answer_is_read(workspace, stand_in):
    stand_in('echo said >&2; echo "{\\"args\\": \\"$*\\"}"')
    start(workspace, "run", "x", ["run", "{config}"], "name: x\n")
    done = wait(workspace, "run-x", until=("done",))
    config = done.folder / "config.yaml"
    assert done.answer() == {"args": f"-m medssl.cli run {config}"} and done.log() == "said" and done.error == ("", "")
    assert config.read_text() == "name: x\n" and done.command == f"medssl run {config}"
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (done.folder, config, done.folder / "process.json")}
    assert modes == {0o700, 0o600}, "commands and configs name the folders of scans"


def test_it_outlives_the_program_that_started_it(workspace, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    code = (
        "import sys; from medssl.experiment import processes; from medssl.workspace import Workspace\n"
        "processes.sys.executable = sys.argv[2]; processes.start(Workspace(sys.argv[1]), 'run', 'x', [])"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.path), str(program)], check=True, timeout=60)
    found = find(workspace, "run-x")
    assert found is not None and found.status == "running"
    found.stop()
    assert wait(workspace, "run-x", until=("stopped",)).code == 128 + signal.SIGTERM


def test_the_second_start_of_a_run_is_told_that_it_runs(workspace, stand_in):
    stand_in("exec sleep 60")
    first = start(workspace, "run", "x", [])
    with pytest.raises(UserError, match="'x' runs already, since"):
        start(workspace, "run", "x", [])
    with pytest.raises(UserError, match="runs already"):
        resume(first)
    assert find(workspace, "run-x") == first and first.status == "running"
    start(workspace, "run", "y", []).stop()
    first.stop()
    wait(workspace, "run-x", until=("stopped",))


def test_an_error_becomes_a_sentence_and_a_way_on(workspace, tmp_path):
    nowhere = tmp_path / "Mr_Miller"
    start(workspace, "ingest", "c", ["ingest", str(nowhere), "--cohort", str(tmp_path / "c"), "--json"])
    failed = wait(workspace, "ingest-c", until=("failed",), seconds=40)
    what, fix = failed.error
    assert what == "The source does not exist." and fix.startswith("Check the path")
    assert "Miller" not in failed.log() and "Traceback" not in failed.log()
    assert failed.code == 2 and "--json" not in failed.command


def test_a_silent_end_is_said_too(workspace, stand_in):
    stand_in("kill -9 $$")
    start(workspace, "run", "x", [])
    assert "signal 9" in wait(workspace, "run-x", until=("failed",)).error[0]
    stand_in("exit 3")
    start(workspace, "run", "x", [])
    assert "exit code 3" in wait(workspace, "run-x", until=("failed",)).error[0]


def test_a_killed_machine_is_noticed_and_the_run_goes_on(workspace, stand_in):
    stand_in("echo first >&2; exec sleep 60")
    running = start(workspace, "run", "x", ["a"])
    while not running.log():
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    lost = wait(workspace, "run-x", until=("lost",))
    assert "without a word" in lost.error[0] and "resume" in lost.error[1]
    stand_in("echo second >&2")
    resume(lost)
    done = wait(workspace, "run-x", until=("done",))
    assert done.log().split() == ["first", "Resumed.", "second"] and done.arguments == ["a"]


def test_a_pid_that_another_program_has_now_is_not_taken_for_the_run(workspace, stand_in):
    stand_in("exec sleep 60")
    running = start(workspace, "run", "x", [])
    os.killpg(running.pid, signal.SIGKILL)
    wait(workspace, "run-x", until=("lost",))
    change(running, pid=os.getpid(), created=running.created - 60)
    found = find(workspace, "run-x")
    assert found.status == "lost"
    found.stop()  # and is not stopped for it
    change(running, pid=os.getpid(), created=processes.psutil.Process().create_time())
    assert find(workspace, "run-x").status == "running"


def test_a_run_of_another_machine_is_left_alone(workspace, stand_in):
    stand_in("exec sleep 60")
    running = start(workspace, "run", "x", [])
    change(running, host="elsewhere")
    found = find(workspace, "run-x")
    found.stop()
    found.forget()
    assert found.status == "elsewhere" and running.status == "running"
    with pytest.raises(UserError, match="runs already"):
        start(workspace, "run", "x", [])
    running.stop()


def test_a_half_written_folder_is_no_process(workspace, stand_in):
    stand_in("exit 0")
    start(workspace, "run", "x", [])
    done = wait(workspace, "run-x", until=("done",))
    assert [p.name for p in processes.processes(workspace)] == ["run-x"]
    (done.folder / "process.json").write_text('{"kind": "r')
    assert find(workspace, "run-x") is None and processes.processes(workspace) == []
    (done.folder / "process.json").write_text("{}")
    assert find(workspace, "run-x") is None


def test_forgetting_leaves_nothing_of_an_ended_one(workspace, stand_in):
    stand_in("exec sleep 60")
    running = start(workspace, "run", "x", [])
    running.forget()
    assert running.folder.exists(), "it still runs"
    running.stop()
    wait(workspace, "run-x", until=("stopped",)).forget()
    assert not running.folder.exists()
