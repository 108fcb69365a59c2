"""*New run* in every state: nothing there, a cohort half read, labels that fit nothing, two tabs, bad ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from streamlit.testing.v1 import AppTest

from medssl.experiment import processes
from medssl.ingest import ingest
from medssl.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import main_page


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """WORKSPACE with the sources `scans` (20 patients, a table beside them) and the cohort `c` of it, not labeled."""
    place = Workspace(tmp_path_factory.mktemp("made"))
    folder = place.path / "sources" / "scans"
    folder.mkdir(parents=True)
    lines = ["file,who,kind"]
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a{i}.png")
        lines.append(f"a{i}.png,MILLER{i},{('calm', 'rough')[i % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    ingest([folder], place.cohort("c"), workspace=place, jobs=0)
    return place.path


@pytest.fixture
def place(made, tmp_path) -> Workspace:
    return Workspace(shutil.copytree(made, tmp_path / "w"))


@pytest.fixture
def labeled(place) -> Workspace:
    from medssl.config import LabelColumns
    from medssl.ingest import add_labels

    table = place.path / "sources" / "scans" / "labels.csv"
    add_labels(place.cohort("c"), LabelColumns(file=str(table), scan="file", patient="who", targets=["kind"]), place)
    return place


@pytest.fixture
def open_page(monkeypatch):
    """Open the page on a workspace as `medssl app` does; what is started fails at once."""
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    monkeypatch.setenv("MEDSSL_DATA", "/nowhere")

    def start(place: Workspace, *options: str, **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", str(place.path), *options])
        app = AppTest.from_file(str(main_page()), default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        return again(app.switch_page("views/new_run.py"))

    return start


@pytest.fixture
def sleeping(tmp_path) -> str:
    """A program that takes its time."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o700)
    return str(program)


def again(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception[0].message
    return app


def words(app: AppTest) -> str:
    pieces = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.info, *app.warning, *app.code]
    text = " ".join([str(p.value) for p in pieces] + [h.proto.body for h in app.get("html")]).replace("\\", "")
    assert "Traceback" not in text and "MILLER" not in text and "Miller" not in text
    return text


def one(elements, label: str):
    return next(e for e in elements if e.label == label)


def leave(place: Workspace, kind: str, about: str, *, code: int | None = None, log: str = "", **values) -> Path:
    """The folder of a process that is gone."""
    folder = place.process(f"{kind}-{about}")
    folder.mkdir(parents=True)
    about_it = {"kind": kind, "about": about, "arguments": [kind, "/x", "/y"], "begun": 1.7e9, "pid": 2**22 + 1}
    about_it |= {"host": os.uname().nodename, "created": 1.7e9}
    (folder / "process.json").write_text(json.dumps(about_it | values))
    (folder / "log.txt").write_text(log)
    if code is not None:
        (folder / "code").write_text(str(code))
    return folder


def test_an_empty_workspace_asks_for_a_folder(open_page, tmp_path):
    text = words(open_page(Workspace(tmp_path / "new")))
    assert "1. Scans" in text and "Name a folder with DICOM" in text and "2. Labels" not in text


def test_a_folder_is_looked_at_before_it_is_read(open_page, place):
    app = open_page(place)
    assert one(app.selectbox, "Folder of scans").options == [f"scans (in {place.path / 'sources'})", "Another folder"]
    text = words(app)
    assert "21 files" in text and "20 images, 1 other" in text and "less than a minute" in text
    assert f"medssl ingest {place.path}/sources/scans --cohort {place.path}/cohorts/scans" in text
    one(app.button, "Read the scans").click()
    again(app)
    assert processes.find(place, "ingest-scans").arguments[:2] == ["ingest", str(place.path / "sources" / "scans")]
    assert app.query_params["cohort"] in ("scans", ["scans"])


@pytest.mark.parametrize("path", ["/etc", "../..", "~"])
def test_folders_that_nobody_listed_cannot_be_named(open_page, place, path):
    app = open_page(place)
    one(app.selectbox, "Folder of scans").select("Another folder")
    again(app)
    one(app.text_input, "Path of the folder").input(path)
    text = words(again(app))
    assert "may not read that folder" in text and "--folder" in text and "files," not in text


def test_a_listed_folder_can_be_named_and_a_missing_one_is_said(open_page, place, tmp_path):
    (tmp_path / "listed" / "scans").mkdir(parents=True)
    app = open_page(place, "--folder", str(tmp_path / "listed"))
    one(app.selectbox, "Folder of scans").select("Another folder")
    again(app)
    one(app.text_input, "Path of the folder").input(str(tmp_path / "listed" / "scans"))
    assert "holds no files" in words(again(app))
    one(app.text_input, "Path of the folder").input(str(tmp_path / "listed" / "nothing"))
    assert "no such file or folder" in words(again(app))


def test_a_cohort_is_not_written_anywhere_else(open_page, place):
    app = open_page(place)
    one(app.text_input, "Name of the cohort").input("../../x")
    assert "Choose another name" in words(again(app)) and not [b for b in app.button if b.label == "Read the scans"]


def test_a_cohort_in_the_link_is_chosen_and_a_deleted_one_is_said(open_page, place):
    text = words(open_page(place, cohort="c"))
    assert "20 scans of 20 patients" in text and "This cohort has no labels yet" in text and "3. What" not in text
    assert "it was deleted" in words(open_page(place, cohort="gone"))


def test_a_cohort_that_goes_while_it_is_looked_at(open_page, place):
    app = open_page(place, cohort="c")
    shutil.rmtree(place.cohort("c"))
    assert "The cohort was deleted" in words(again(app))


def test_damaged_and_half_read_cohorts_are_said(open_page, place):
    (place.cohort("d")).mkdir()
    (place.cohort("d") / "catalog.sqlite").write_bytes(b"no database" * 500)
    text = words(open_page(place, cohort="d"))
    assert "damaged" in text or "cannot be read" in text or "not all been read" in text
    leave(place, "ingest", "e", log="reading")
    text = words(open_page(place, cohort="e"))
    assert "interrupted" in text and "the machine went down" in text and "not all been read" in text


def test_labels_are_matched_before_they_are_added(open_page, place):
    app = open_page(place, cohort="c")
    assert one(app.text_input, "Or name its path").value == ""
    one(app.text_input, "Or name its path").input(str(place.path / "sources" / "scans" / "labels.csv"))
    text = words(again(app))
    assert "20 of 20 rows fit" in text and "calm (10), rough (10)" in text
    one(app.selectbox, "Column with the patient").select("who")
    text = words(again(app))
    assert "of 20 patients" in text and "--patient-column who" in text
    one(app.multiselect, "Columns to predict").select("file")
    assert "20 different values, not shown" in words(again(app))
    one(app.button, "Add labels").click()
    again(app)
    assert processes.find(place, "label-c").arguments[0] == "label"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,kind", "zz.png,calm"], "None of 1 rows fits any of 20 scans"),
        (["4711,calm", "4712,rough"], "holds values, not the names of columns"),
        (["file,kind"], "has no rows"),
        (["file,label", "a0.png,calm", "a0.png,rough"], "rows that disagree"),
    ],
)
def test_tables_that_fit_nothing_are_said(open_page, place, lines, said):
    (place.path / "wrong.csv").write_text("\n".join(lines) + "\n")
    app = open_page(place, cohort="c")
    one(app.text_input, "Or name its path").input(str(place.path / "wrong.csv"))
    assert said in words(again(app)) and not [b for b in app.button if b.label == "Add labels"]


def test_the_secret_is_no_label_table(open_page, place):
    app = open_page(place, cohort="c")
    one(app.text_input, "Or name its path").input(str(place.path / "secret"))
    text = words(again(app))
    assert "ends in .csv" in text and (place.path / "secret").read_text().strip() not in text


def test_an_uploaded_table_goes_once_its_labels_are_in(open_page, labeled):
    table = labeled.upload("x.csv")
    table.parent.mkdir()
    table.write_text("a")
    leave(labeled, "label", "c", code=0, arguments=["label", "cohort", str(table)])
    words(open_page(labeled, cohort="c"))
    assert not table.exists()


def test_a_draft_becomes_yaml_a_command_and_a_run(open_page, labeled):
    app = open_page(labeled, cohort="c")
    text = words(app)
    assert "calm (10), rough (10)" in text and "20 labeled images of 20 patients, 2 classes" in text
    assert one(app.text_input, "Budgets").value == "2, all", "10 a class are too few for more"
    one(app.number_input, "Steps").set_value(5)
    one(app.multiselect, "Compare with").set_value(["pixels"])
    again(app)
    raw = yaml.safe_load(next(c.value for c in app.code if c.language == "yaml"))
    assert raw["pretraining"] == {"simclr": {"task": "simclr", "steps": 5}} and raw["baseline"] == ["pixels"]
    assert raw["claim"] == {"arm": "simclr", "baseline": "pixels", "budget": 2}
    assert f"medssl run c.yaml --workspace {labeled.path}" in words(app)
    one(app.button, "Start").click()
    again(app)
    run = processes.find(labeled, "run-c")
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == raw
    assert app.query_params["run"] in ("run-c", ["run-c"]) and "Experiment c" in words(app)


def test_choices_that_cannot_run_are_said(open_page, labeled):
    app = open_page(labeled, cohort="c")
    one(app.text_input, "Budgets").input("0, all")
    assert "budgets must be" in words(again(app)).lower()
    one(app.text_input, "Budgets").input("[2, ")
    assert "cannot be read" in words(again(app))
    one(app.multiselect, "Compare with").set_value([])
    assert "nothing to compare" in words(again(app))


def test_the_second_tab_is_told_that_it_runs(open_page, labeled, sleeping, monkeypatch):
    tabs = [open_page(labeled, cohort="c") for _ in range(2)]
    monkeypatch.setattr(processes.sys, "executable", sleeping)
    one(tabs[0].button, "Start").click()
    assert "runs already" not in words(tabs[0].run()).split("4. Start")[0]
    one(tabs[1].button, "Start").click()
    text = words(again(tabs[1]))
    assert "'c' runs already, since" in text and "Nothing was started a second time" in text
    assert "Stop" in [b.label for b in tabs[1].button], "the card of the run that is under way"
    assert [p.name for p in processes.processes(labeled)] == ["run-c"]
    processes.find(labeled, "run-c").stop()


def test_an_estimate_is_said_in_sentences(open_page, labeled, sleeping, monkeypatch):
    app = open_page(labeled, cohort="c")
    monkeypatch.setattr(processes.sys, "executable", sleeping)
    one(app.button, "Estimate time and memory").click()
    again(app)
    process = next(p for p in processes.processes(labeled) if p.kind == "estimate")
    assert "--dry-run" in process.arguments
    answer = {
        "jobs": 12,
        "patients": {"pool": 10, "validation": 2, "test": 8},
        "detectable": {"claimed": None},
        "cost": {"pretraining": {"simclr": 300}, "jobs": 60, "seconds": 380, "memory": 2**30, "memory_there": 2**34},
    }
    os.killpg(process.pid, signal.SIGKILL)
    (process.folder / "answer.txt").write_text(json.dumps(answer))
    (process.folder / "code").write_text("0")
    text = words(again(app))
    assert "about 6 minutes: pretraining 5 minutes, jobs 60 seconds" in text
    assert "1.0 GiB of the 16 GiB" in text and "no interval can be given" in text


def test_runs_that_ended_are_found_again(open_page, place):
    leave(place, "run", "bad", code=2, log="Error: d123: the disk is small.\n  To do: Make room.")
    leave(place, "run", "gone", log="x")
    leave(place, "run", "far", host="another")
    text = words(open_page(place, run="run-gone"))
    assert (
        "D123: the disk is small. Make room." in text and "the machine went down" in text and "look on another" in text
    )
    app = open_page(place, run="run-nothing")
    assert "was removed, or never started here" in words(app)
    one(app.button, "Remove").click()
    again(app)
    assert len(processes.processes(place)) == 2
