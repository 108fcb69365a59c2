import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.cli import app


@pytest.fixture
def medssl(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments)])

    return call


@pytest.fixture
def scans(tmp_path):
    import numpy as np
    from PIL import Image

    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"a{i}.png")
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"a{i}.png,{'xy'[i % 2]}\n" for i in range(24)))
    return folder


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys, medssl.cli; print(*[m for m in ('torch', 'pandas', 'altair', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "medssl.cli", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 5  # 0.5 s on an idle machine; the list above is the real guard


def test_ingest_label_and_pretrain_speak_json(medssl, scans, tmp_path):
    place, cohort = tmp_path / "ws", tmp_path / "ws" / "cohorts" / "c"
    done = medssl("ingest", scans, "--cohort", cohort, "--workspace", place, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    files = answer["files"]
    assert files["found"] == files["accepted"] + files["rejected"] + files["ignored"] == 25
    assert answer["scans"] == 24 and {"cohort", "patients", "findings"} <= set(answer)
    done = medssl("label", cohort, scans / "labels.csv", "--scan-column", "file", "--workspace", place, "--json")
    assert done.exit_code == 0, done.output
    arguments = ("pretrain", cohort, "--task", "rotation", "--size", 32, "--steps", 3, "batch=8", "--workspace", place)
    done = medssl(*arguments, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["batch"] == 8 and not (place / "encoders").exists()
    done = medssl(*arguments, "--json")
    assert done.exit_code == 0, done.output
    first = json.loads(done.stdout)
    assert {"checkpoint", "steps", "images_per_second", "resumed_from"} <= set(first) and first["steps"] == 3
    assert Path(first["checkpoint"]).exists()
    mistyped = medssl(*arguments, "bacth=8")
    assert mistyped.exit_code == 2 and "Did you mean 'batch'" in mistyped.output
    again = medssl(*arguments, "--json")
    assert json.loads(again.stdout)["checkpoint"] == first["checkpoint"]
    assert f"medssl app --workspace {place.resolve()}, page Embedding" in again.stderr


def test_export_speaks_json_and_goes_on(medssl, scans, tmp_path):
    place, cohort, out = tmp_path / "ws", tmp_path / "ws" / "cohorts" / "c", tmp_path / "out"
    medssl("ingest", scans, "--cohort", cohort, "--workspace", place)
    for written in (24, 0):
        done = medssl("export", cohort, out, "--format", "nifti", "--json")
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        assert (answer["scans"], answer["written"], answer["kept"]) == (24, written, 24 - written)
    assert len(list(out.glob("*.png"))) == 24 and Path(answer["index"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "{tmp}/nowhere", "--cohort", "{tmp}/c"], "the source does not exist"),
        (["ingest", "{tmp}/empty", "--cohort", "{tmp}/c"], "no files"),
        (["ingest", "{scans}", "--cohort", "{tmp}/c", "--labels", "nolabels.csv"], "label file does not exist"),
        (["ingest", "{scans}", "--cohort", "{tmp}/c", "--labels", "labels.csv", "--target", "lable"], "label"),
        (["ingest", "{scans}", "--cohort", "{tmp}/c", "--labels", "labels.csv", "--scan-column", "label"], "row"),
        (["run", "nothing"], "no such config"),
        (["run", "demo", "drawz=3"], "Did you mean 'draws'"),
        (["run", "demo"], "medssl demo"),
        (["pretrain", "{tmp}/nowhere"], "not a cohort"),
    ],
)
def test_bad_input_is_one_message_exit_2_and_no_traceback(medssl, scans, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [a.format(tmp=tmp_path, scans=scans) for a in arguments] + ["--workspace", str(tmp_path / "ws")]
    done = medssl(*filled)
    assert done.exit_code == 2, done.output
    assert message in done.output and "Traceback" not in done.output


def test_a_truncated_file_among_good_ones_is_rejected_and_the_rest_stays(medssl, scans, tmp_path):
    (scans / "a3.png").write_bytes((scans / "a3.png").read_bytes()[:200])
    done = medssl("ingest", scans, "--cohort", tmp_path / "c", "--workspace", tmp_path / "ws", "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["files"]["rejected"] == 1 and answer["scans"] == 23


def test_tasks_are_listed_with_their_papers(medssl):
    rows = json.loads(medssl("tasks", "--json").stdout)
    assert {"rotation", "inpainting", "simclr"} <= {row["name"] for row in rows}
    assert all(row["paper"] and row["line"] for row in rows)


def piped(*arguments):
    return subprocess.run([sys.executable, "-m", "medssl.cli", *map(str, arguments)], capture_output=True, text=True)


def on_terminal(*arguments):
    """The same command with a terminal as standard output and error; its text."""
    import os
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "medssl.cli", *map(str, arguments)], stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        text += piece
    child.wait()
    os.close(ours)
    return text.decode()


def test_paths_of_a_source_are_shown_on_a_terminal_and_by_keyed_ids_in_a_pipe(scans, tmp_path):
    (scans / "DOE^JANE.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    arguments = ("ingest", scans, "--cohort", tmp_path / "c", "--workspace", tmp_path / "ws")
    assert "DOE^JANE.png" in on_terminal(*arguments)
    done = piped(*arguments)
    assert done.returncode == 0 and "DOE" not in done.stdout + done.stderr
    key = next(line.split()[-1] for line in done.stdout.splitlines() if "rejected (unreadable)" in line)
    answer = json.loads(piped(*arguments, "--json").stdout)
    assert answer["rejected_files"] == [{"file": key, "code": "unreadable"}]

    missing = ("ingest", tmp_path / "DOE^JANE", "--cohort", tmp_path / "c", "--workspace", tmp_path / "ws")
    assert "DOE^JANE" in on_terminal(*missing)
    done = piped(*missing)
    assert done.returncode == 2 and "DOE" not in done.stderr and "Error: path d" in done.stderr


def test_an_unexpected_error_says_its_type_and_line_in_a_pipe_and_nothing_else(medssl, scans, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise ValueError("DOE^JANE")

    monkeypatch.setattr(sys.modules["medssl.cli.cohorts"], "Workspace", fails)
    done = medssl("ingest", scans, "--cohort", tmp_path / "c", "--workspace", tmp_path / "ws")
    assert done.exit_code == 1 and "unexpected ValueError in medssl/cli/cohorts.py:" in done.output
    assert "DOE" not in done.output and "Traceback" not in done.output


def test_the_app_is_not_opened_to_others_without_a_login(medssl, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("os.execv", lambda program, command: started.append(command))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    refused = medssl("app", "--workspace", tmp_path, "--address", "0.0.0.0")
    assert refused.exit_code == 2 and "without a password" in refused.output and not started
    assert medssl("app", "--workspace", tmp_path).exit_code == 0
    assert started[0][started[0].index("--server.address") + 1] == "localhost"
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text("[auth]\nclient_id = 'x'\n")
    assert medssl("app", "--workspace", tmp_path, "--address", "0.0.0.0").exit_code == 0
    assert started[1][started[1].index("--server.address") + 1] == "0.0.0.0"


def test_a_port_that_is_taken_is_said_before_the_address(medssl, tmp_path, monkeypatch):
    monkeypatch.setattr("os.execv", lambda program, command: pytest.fail("started all the same"))
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        done = medssl("app", "--workspace", tmp_path, "--port", taken.getsockname()[1])
    assert done.exit_code == 2 and "choose another with --port" in done.output and "http://" not in done.output
