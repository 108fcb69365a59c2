import json
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
    again = json.loads(medssl(*arguments, "--json").stdout)
    assert again["checkpoint"] == first["checkpoint"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "{tmp}/nowhere", "--cohort", "{tmp}/c"], "nowhere"),
        (["ingest", "{tmp}/empty", "--cohort", "{tmp}/c"], "no files"),
        (["ingest", "{scans}", "--cohort", "{tmp}/c", "--labels", "nolabels.csv"], "nolabels.csv"),
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
