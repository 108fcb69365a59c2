"""The embedding page in every state: no cohort, an empty one, no scanner, a learned scanner, long computations."""

import json
import subprocess
import sys

import pytest
from open_page import open_page, query, words
from synthetic import write_experiment
from synthetic_cohort import write_cohort, write_encoder, write_volumes

from medssl.cohort import Cohort
from medssl.experiment import embedding as room


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a cohort of two scanners and a pretrained encoder."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_cohort(workspace)
    write_encoder(workspace)
    return workspace


def spec(app, number):
    return json.loads(app.get("vega_lite_chart")[number].proto.spec)


def test_no_cohort_says_what_to_do(monkeypatch, tmp_path):
    text = words(open_page(monkeypatch, tmp_path, "embedding"))
    assert "no cohorts yet" in text and "medssl ingest" in text


def test_a_learned_scanner_is_said_first_with_figures(monkeypatch, made):
    app = open_page(monkeypatch, made, "embedding", encoder="pixels")
    text = words(app)
    assert "These features tell the scanner" in text and "0.5 is chance" in text
    assert "vendor with an AUC of 1.00 [1.00, 1.00]" in text and "Test patients are left out" in text
    assert len(app.get("vega_lite_chart")) == 2
    assert text.count("<img") == 13 + 2 * 7  # the scan, its neighbours, and examples of the clusters
    labels = [b.label for b in app.get("download_button")]
    assert labels == [f"{what}, {kind}" for what in ("Readings", "Map") for kind in ("PNG", "SVG", "CSV")]
    assert "Siemens" in text and "Most of vendor" in text


def test_of_a_pretrained_encoder_it_is_said_that_it_has_learned_it(monkeypatch, made):
    assert "This encoder has learned" in words(open_page(monkeypatch, made, "embedding"))


def test_colour_encoder_map_and_scan_stand_in_the_url_and_are_restored(monkeypatch, made):
    app = open_page(monkeypatch, made, "embedding")
    assert "encoder" not in query(app)  # the first: the pretrained one
    app.selectbox(key="encoder:virtual").set_value("pixels").run()
    app.get("button_group")[0].set_value("vendor").run()
    app.get("button_group")[2].set_value("3").run()
    app.text_input(key="scan box virtual").set_value("u007").run()
    assert not app.exception
    asked = query(app)
    wanted = {"encoder": "pixels", "colour": "vendor", "clusters": "3", "scan": "u007"}
    assert {key: asked.get(key) for key in wanted} == wanted
    again = open_page(monkeypatch, made, "embedding", **asked)
    assert again.text_input(key="scan box virtual").value == "u007"
    scale = spec(again, 1)["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["GE", "Siemens"]


def test_a_click_chooses_a_scan_and_a_strange_key_is_said(monkeypatch, made):
    app = open_page(monkeypatch, made, "embedding", encoder="pixels")
    app.text_input(key="scan box virtual").set_value("nobody").run()
    assert "No scan of this cohort begins" in words(app)
    before = app.text_input(key="scan box virtual").value
    app.button(key="another virtual").click().run()
    assert not app.exception and query(app)["scan"].startswith("u") and before.startswith("u")


def test_links_to_what_is_not_there_fall_back(monkeypatch, made):
    app = open_page(
        monkeypatch, made, "embedding", cohort="none", encoder="none", colour="none", scan="none", clusters="x"
    )
    assert len(app.get("vega_lite_chart")) == 2


def test_patients_are_keys_and_umap_is_said_in_a_sentence(monkeypatch, made):
    monkeypatch.setitem(sys.modules, "umap", None)
    app = open_page(monkeypatch, made, "embedding", encoder="pixels", colour="patient")
    assert "first digits of their keys" in words(app)
    app.get("button_group")[1].set_value("umap").run()
    assert "UMAP is not installed" in words(app) and "medssl[umap]" in words(app)
    assert len(app.get("vega_lite_chart")) == 1  # and the rest of the page stands
    assert "Neighbours of a scan" in words(app)


def test_without_signs_of_the_scanner_nothing_is_said_of_it(monkeypatch, tmp_path):
    write_cohort(tmp_path, scanner=False)
    text = words(open_page(monkeypatch, tmp_path, "embedding", encoder="pixels"))
    assert "Nothing can be said of the scanner" in text


def test_without_labels_and_with_few_scans_the_page_stands(monkeypatch, tmp_path):
    write_volumes(tmp_path)
    app = open_page(monkeypatch, tmp_path, "embedding", encoder="pixels")
    text = words(app)
    assert "Nothing can be said of the scanner" in text and "too few scans for clusters" in text


def test_an_empty_cohort_and_a_damaged_one_are_said_in_a_sentence(monkeypatch, tmp_path):
    Cohort.create(tmp_path / "cohorts" / "bare")
    assert "has no scans" in words(open_page(monkeypatch, tmp_path, "embedding"))
    (tmp_path / "cohorts" / "bare" / "catalog.sqlite").write_bytes(b"no database, but long enough to be read" * 40)
    assert "cannot be read" in words(open_page(monkeypatch, tmp_path, "embedding"))


def test_a_damaged_encoder_is_said_in_a_sentence(monkeypatch, tmp_path):
    write_cohort(tmp_path, scans=8)
    (write_encoder(tmp_path) / "checkpoint.safetensors").write_bytes(b"no safetensors")
    assert "not a safetensors file" in words(open_page(monkeypatch, tmp_path, "embedding")).lower()


def test_what_takes_long_is_asked_for(monkeypatch, tmp_path):
    write_cohort(tmp_path, scans=8)
    monkeypatch.setattr(room, "estimate", lambda task: 300.0)
    app = open_page(monkeypatch, tmp_path, "embedding", encoder="pixels")
    assert "about 5 min" in words(app) and not app.get("vega_lite_chart")
    next(b for b in app.button if b.label == "Compute them").click().run()
    assert not app.exception and len(app.get("vega_lite_chart")) >= 1


def test_very_many_scans_are_sampled_for_drawing_and_that_is_said(monkeypatch, made):
    monkeypatch.setattr(room, "drawn", lambda count, most: list(range(0, count, 2)))
    app = open_page(monkeypatch, made, "embedding", encoder="pixels")
    assert "Drawn are 30 of 60 scans" in words(app)


def test_the_cohort_of_the_chosen_experiment_stands_first(monkeypatch, tmp_path):
    write_cohort(tmp_path, "another", scans=8)
    write_cohort(tmp_path, "virtual", scans=8)
    write_experiment(tmp_path, draws=1, test_units=8)
    app = open_page(monkeypatch, tmp_path, "embedding", encoder="pixels")
    assert app.selectbox(key="cohort:embedding").value == "virtual"


def test_what_was_computed_is_shown_without_torch(made):
    from open_page import main_page

    code = (
        "import sys; sys.argv = ['main.py', sys.argv[1]]\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(main_page())!r}, default_timeout=60)\n"
        "app.query_params['encoder'] = 'pixels'\n"
        "app.run()\n"
        "app.switch_page('views/embedding.py').run()\n"
        "assert not app.exception and len(app.get('vega_lite_chart')) == 2\n"
        "print(sorted({'torch', 'timm', 'monai', 'umap'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
