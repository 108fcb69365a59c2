"""The prediction page in every state: finished, without its cohort, of another kind of target, damaged, filtered."""

import json
import shutil

import numpy as np
import pytest
import yaml
from open_page import open_page, query, words
from synthetic import write_experiment
from synthetic_cohort import write_cohort

from medssl.cohort import catalog
from medssl.errors import UserError
from medssl.experiment import saliency


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workspace with an experiment and the cohort that it tested."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_experiment(workspace)
    write_cohort(workspace)
    return workspace


def test_charts_units_and_downloads(monkeypatch, finished):
    app = open_page(monkeypatch, finished, "predictions")
    text = words(app)
    assert len(app.get("vega_lite_chart")) == 4  # confusion, ROC, calibration, and the scan's scores
    assert "60 images of 45 patients of the test part, by 4 models (5 labels a class)" in text
    assert text.count('alt="Scan') == 13 and "1 to 12 of 60" in text
    assert "not to tune" in text and "taken for" in text
    labels = [b.label for b in app.get("download_button")]
    assert labels[:2] == ["Units, CSV", "Confusion, PNG"] and labels[-3:] == [
        "Scores, PNG",
        "Scores, SVG",
        "Scores, CSV",
    ]
    assert app.selectbox(key="arm:synthetic").value == "simclr"  # the claim's arm


def test_the_worst_stand_first_and_each_can_be_looked_at(monkeypatch, finished):
    from medssl.experiment import Results
    from medssl.statistics.units import unit_scores

    table = unit_scores(Results.open(finished / "experiments" / "synthetic").arrays, "simclr", 5)
    order = table.sort_values("error", ascending=False)["unit"].tolist()
    app = open_page(monkeypatch, finished, "predictions")
    looks = [b.key.rpartition(" ")[2] for b in app.button if b.label == "Look"]
    assert looks == order[:12] and f"Image {order[0]}" in words(app)
    next(b for b in app.button if b.key == f"look synthetic {order[3]}").click().run()
    assert not app.exception and f"Image {order[3]}" in words(app) and query(app)["unit"] == order[3]
    app.selectbox(key="order:synthetic").set_value("sure").run()
    assert next(b.key.rpartition(" ")[2] for b in app.button if b.label == "Look") == order[-1]


def test_filters_and_pages(monkeypatch, finished):
    app = open_page(monkeypatch, finished, "predictions", arm="pixels", budget="2")
    app.number_input(key="page synthetic").set_value(5).run()
    assert "49 to 60 of 60" in words(app) and query(app)["page"] == "5"
    app.selectbox(key="truth:synthetic").set_value("lesion").run()
    assert "25 to 30 of 30" in words(app) and app.number_input(key="page synthetic").label == "Page, of 3"
    app.checkbox(key="wrong synthetic").check().run()
    text = words(app)
    assert "lesion taken for none" in text and "none taken for lesion" not in text and "as predicted" not in text
    asked = query(app)
    assert (
        asked["arm"] == "pixels" and asked["budget"] == "2" and asked["only"] == "wrong" and asked["truth"] == "lesion"
    )
    again = words(open_page(monkeypatch, finished, "predictions", **asked))
    assert "lesion taken for none" in again and "as predicted" not in again


def test_all_labels_and_another_class(monkeypatch, finished):
    app = open_page(monkeypatch, finished, "predictions", budget="all", **{"class": "lesion"})
    specs = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert "ROC of lesion" in json.dumps(specs[1]["title"]) and "all labels" in words(app)


def test_the_mask_is_outlined_and_can_be_taken_off(monkeypatch, finished):
    app = open_page(monkeypatch, finished, "predictions", unit="u001")  # a lesion, so with a mask
    assert app.checkbox(key="mask synthetic").value
    outlined = words(app)
    app.checkbox(key="mask synthetic").uncheck().run()
    assert words(app) != outlined
    bare = open_page(monkeypatch, finished, "predictions", unit="u002")
    assert not [c for c in bare.checkbox if c.key == "mask synthetic"]


def test_pixels_that_may_name_a_patient_are_shown_only_when_asked_for(monkeypatch, finished, tmp_path):
    place = shutil.copytree(finished, tmp_path / "workspace")
    plain = open_page(monkeypatch, place, "predictions", unit="u002")
    assert not [b for b in plain.button if b.label == "Show the pixels"]
    with catalog.writing(place / "cohorts" / "virtual") as db:
        row = ("burned_in_pixels", "warning", "u002", None, "It may name the patient.", "Look.")
        db.execute("INSERT INTO findings(code, severity, scan, file, sentence, todo) VALUES(?,?,?,?,?,?)", row)
    app = open_page(monkeypatch, place, "predictions", unit="u002")
    large = '<div class="m-scan">'
    veiled = next(h.proto.body for h in app.get("html") if large in h.proto.body)
    assert "burned-in text" in words(app) and veiled not in words(plain)
    next(b for b in app.button if b.label == "Show the pixels").click().run()
    assert "burned-in text" not in words(app) and veiled not in words(app) and not app.exception
    pictures = [h.proto.body for page in (plain, app) for h in page.get("html") if large in h.proto.body]
    assert pictures[0] == pictures[1], "the same as without the finding"


def test_heat_of_a_model_is_laid_over(monkeypatch, finished):
    asked = []

    def model(results, arm, budget, unit):
        asked.append((arm, budget, unit))
        return "a predictor", 0

    def heat(predictor, cohort, unit, cls):
        assert predictor == "a predictor" and cls == "lesion"
        return saliency.Heat(1, 3, np.eye(32, dtype=np.float32), 0.7)

    monkeypatch.setattr(saliency, "model_of", model)
    monkeypatch.setattr(saliency, "unit_heat", heat)
    app = open_page(monkeypatch, finished, "predictions", unit="u001", arm="rotation")
    app.selectbox(key="heat:synthetic").set_value("lesion").run()
    text = words(app)
    assert not app.exception and asked == [("rotation", 5, "u001")]
    assert "what speaks for lesion (0.70 by this model)" in text and "Of 3 slices" in text and "fitted again" in text


def test_why_there_is_no_heat_is_said_in_a_sentence(monkeypatch, finished):
    def model(results, arm, budget, unit):
        raise UserError("the encoder 'x' of this arm is gone", "synthetic", "Run its config again.")

    monkeypatch.setattr(saliency, "model_of", model)
    app = open_page(monkeypatch, finished, "predictions", heat="lesion", arm="simclr", budget="2")
    assert "The encoder 'x' of this arm is gone. Run its config again." in words(app).replace("&#x27;", "'")


def test_a_real_refusal_is_said_too(monkeypatch, finished):
    """The cohort of this made-up experiment is not the one that its facts name."""
    text = words(open_page(monkeypatch, finished, "predictions", heat="none", arm="scratch", budget="all"))
    assert "has changed since the experiment was run" in text


def test_a_long_fit_is_asked_for(monkeypatch, finished, tmp_path):
    import shutil
    import sqlite3

    shutil.copytree(finished, tmp_path / "workspace")
    with sqlite3.connect(tmp_path / "workspace" / "experiments" / "synthetic" / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET seconds = 90")
    monkeypatch.setattr(saliency, "model_of", lambda *_: pytest.fail("fitted without being asked"))
    app = open_page(monkeypatch, tmp_path / "workspace", "predictions", heat="lesion")
    assert "takes about 90 s" in words(app) and any(b.label == "Fit it again" for b in app.button)


def test_without_the_cohort_numbers_stand_alone(monkeypatch, tmp_path):
    write_experiment(tmp_path, draws=1, test_units=10)
    app = open_page(monkeypatch, tmp_path, "predictions")
    text = words(app)
    assert "not there any more" in text and "There is no picture of it" in text and "<img" not in text
    assert len([b for b in app.button if b.label == "Look"]) == 10 and "by one model" in text


def test_no_experiment_and_damaged_ones(monkeypatch, tmp_path):
    assert "no experiments yet" in words(open_page(monkeypatch, tmp_path / "nothing", "predictions"))
    folder = write_experiment(tmp_path / "workspace", draws=1, test_units=10)
    next((folder / "results").iterdir()).write_bytes(b"not parquet")
    assert "cannot be read" in words(open_page(monkeypatch, tmp_path / "workspace", "predictions"))
    for path in (folder / "results").iterdir():
        path.unlink()
    assert "gone" in words(open_page(monkeypatch, tmp_path / "workspace", "predictions"))
    (folder / "jobs.sqlite").unlink()
    assert "no job has finished yet" in words(open_page(monkeypatch, tmp_path / "workspace", "predictions")).lower()


def test_another_kind_of_target_is_said(monkeypatch, tmp_path):
    folder = write_experiment(tmp_path, draws=1, test_units=10)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["target"]["kind"] = "segmentation"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "this experiment is a segmentation" in words(open_page(monkeypatch, tmp_path, "predictions"))
