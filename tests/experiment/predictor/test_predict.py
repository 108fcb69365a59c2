"""`medssl refit` and `medssl predict`: the files that they write, from a process of their own."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from medssl.cli import app


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_clean_process_reproduces_the_record_of_a_finetuned_arm(finished, taken, tested, tmp_path):
    results, workspace = finished
    command = ["predict", taken("scratch"), tested, "--out", tmp_path, "--workspace", workspace.path, "--json"]
    done = subprocess.run([sys.executable, "-m", "medssl.cli", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"scores", "patients", "findings", "units", "rejected", "unlike"} == set(answer)
    rows = results.evidence()
    rows = rows[(rows["arm"] == "scratch") & (rows["budget"] == "all") & (rows["draw"] == 0)]
    found = pd.read_csv(answer["scores"]).set_index("unit")
    assert answer["units"] == len(found) == rows["unit"].nunique()
    for name in ("calm", "rough"):
        truth = rows[rows["cls"] == name].set_index("unit")["score"]
        assert found[f"score_{name}"].reindex(truth.index).tolist() == pytest.approx(truth.tolist(), abs=1e-5)
    said = json.loads((tmp_path / "findings.json").read_text())
    assert said["predictor"]["arm"] == "scratch" and said["ingestion"]["files"]["accepted"] == len(found)
    assert "scan_" not in done.stdout + done.stderr + json.dumps(said)


def test_the_commands_speak_json_and_take_names_of_the_workspace(finished, tested, tmp_path):
    _, workspace = finished
    made = call("refit", "tiny", "pixels", "--out", tmp_path / "p", "--workspace", workspace.path, "--json")
    assert made.exit_code == 0, made.output
    answer = json.loads(made.stdout)
    assert set(answer) == {"predictor", "card", "job", "units", "patients", "temperature"}
    done = call("predict", tmp_path / "p", workspace.cohort("tiny"), "--out", tmp_path / "o", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["units"] == 160
    assert "ingestion" not in json.loads((tmp_path / "o" / "findings.json").read_text())


def test_wrong_words_are_one_message_and_exit_2(finished, tmp_path):
    _, workspace = finished
    place = ("--out", tmp_path / "p", "--workspace", workspace.path)
    for arguments, message in (
        (("refit", "tiny", "pixles", *place), "Did you mean 'pixels'"),
        (("refit", "tiny", "pixels", "--budget", "most", *place), "unknown budget"),
        (("refit", "nothing", "pixels", *place), "no experiment here"),
        (("predict", tmp_path, tmp_path, *place), "medssl refit"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output, done.output
