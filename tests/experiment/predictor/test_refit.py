"""What is taken away is what was measured."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from pretended_gpu import GPU, pretended

from medssl.cohort import Cohort
from medssl.errors import UserError
from medssl.experiment import Results
from medssl.experiment.predictor import Predictor, refit
from medssl.experiment.saliency import unit_heat
from medssl.training import rules
from medssl.workspace import Workspace


def recorded(results, arm, budget="all", draw=0):
    """unit -> score of the second class, as the experiment's job left it."""
    rows = results.evidence()
    rows = rows[(rows["arm"] == arm) & (rows["budget"] == budget) & (rows["draw"] == draw) & (rows["cls"] == "rough")]
    return rows.set_index("unit")["score"]


@pytest.mark.parametrize("arm", ["pixels", "random", "scratch", "simclr"])
def test_the_predictor_gives_the_scores_that_its_job_recorded(finished, taken, tested, arm):
    results, workspace = finished
    predictor = Predictor.load(taken(arm))
    assert predictor.about.labels.job in set(results.jobs()["job"])
    found = predictor.predictions(tested, workspace).units.set_index("unit")
    truth = recorded(results, arm)
    assert len(truth) and set(found.index) == set(truth.index)
    assert found["score_rough"].reindex(truth.index).to_numpy() == pytest.approx(truth.to_numpy(), abs=1e-5)


@pytest.mark.parametrize("arm", ["random", "scratch"])
def test_a_gpu_gives_the_same_scores(finished, monkeypatch, tmp_path, arm):
    """Fitted, kept, read, predicted and shown on a pretended one."""
    results, workspace = finished
    monkeypatch.setattr(rules, "devices", lambda: [GPU])
    monkeypatch.setattr(rules, "this_device", lambda: torch.device(GPU))
    cohort = Cohort.open(results.cohort_folder)
    with pretended() as gpu:
        predictor = refit(results, arm)
        predictor.save(tmp_path / "taken", "A card.")
        read = Predictor.load(tmp_path / "taken")
        found = read.predictions(cohort, workspace).units.set_index("unit")["score_rough"]
        assert all(weight in gpu for weight in read.fitted.encoder.parameters())
        heat = unit_heat(read, cohort, found.index[0], "rough")
    truth = recorded(results, arm)
    assert found.reindex(truth.index).to_numpy() == pytest.approx(truth.to_numpy(), abs=1e-5)
    assert heat.heat.shape == (32, 32)


def test_another_budget_and_draw_are_another_job(finished):
    results, workspace = finished
    predictor = refit(results, "pixels", budget=5, draw=1)
    cohort = Results.open(results.path).cohort_folder
    found = predictor.predictions(cohort, workspace).units.set_index("unit")["score_rough"]
    truth = recorded(results, "pixels", "5", 1)
    assert found.reindex(truth.index).to_numpy() == pytest.approx(truth.to_numpy(), abs=1e-5)
    assert np.abs(found.reindex(truth.index) - recorded(results, "pixels")).max() > 1e-3
    labels = predictor.about.labels
    assert (labels.units, labels.budget, labels.draw, labels.every) == (10, 5, 1, False)


def test_all_labels_teach_and_none_are_left_to_calibrate_on(finished, taken, tmp_path):
    from medssl.report import write_predictor

    results, _ = finished
    predictor = write_predictor(results.path, "pixels", tmp_path / "every", all_labels=True)
    labels = predictor.about.labels
    assert labels.every and labels.units == 160 and labels.patients == 80 and labels.job is None
    assert Predictor.load(taken("pixels")).about.labels.units < 160
    assert predictor.about.calibration.temperature == 1 and "Not calibrated" in predictor.about.calibration.rule
    card = (tmp_path / "every" / "card.md").read_text()
    assert "These are not figures of this predictor" in card and "Not calibrated" in card


def test_the_folder_names_no_patient_and_no_path(finished, taken, tiny_source):
    folder = taken("scratch")
    patients = json.loads((finished[0].path / "split.json").read_text())
    keys = [key for part in ("pool", "validation", "test") for key in patients[part]]
    assert {file.name for file in folder.iterdir()} == {
        "predictor.json", "predictor.safetensors", "training.json", "card.md"
    }  # fmt: skip
    for file in folder.iterdir():
        text = file.read_bytes().decode("latin-1")
        assert not any(word in text for word in [*keys, "PATIENT", str(tiny_source), str(finished[1].path)]), file.name


def test_a_file_of_weights_is_named_without_its_folder(finished, tmp_path):
    from medssl.encoders import create_encoder, save_checkpoint

    results, _ = finished
    file = save_checkpoint(tmp_path / "weights.safetensors", create_encoder("small", seed=9))
    arm = results.settings.arms["random"].model_copy(update={"init": str(file)})
    changed = Results(results.path, results.settings.model_copy(update={"arms": {"random": arm}}))
    about = refit(changed, "random").about
    assert about.recipe["arm"]["init"] == "weights.safetensors" and str(tmp_path) not in about.model_dump_json()
    assert about.labels.job is None  # the experiment's own arm began with other weights


def test_what_cannot_be_refitted_is_refused(finished, tmp_path):
    results, workspace = finished
    for arguments, message in (
        ({"arm": "simcrl"}, "Did you mean 'simclr'"),
        ({"arm": "pixels", "budget": 7}, "unknown budget '7'"),
        ({"arm": "pixels", "draw": 3}, "Draws go from 0 to 2"),
        ({"arm": "pixels", "budget": 5, "all_labels": True}, "all labels are more than a budget"),
    ):
        with pytest.raises(UserError, match=message):
            refit(results, **arguments)
    copy = Workspace(shutil.copytree(workspace.path, tmp_path / "copy"))
    place = copy.experiment("tiny")
    shutil.rmtree(copy.encoder(json.loads((place / "pretrained.json").read_text())["simclr"]))
    with pytest.raises(UserError, match="is gone"):
        refit(Results.open(place), "simclr")
    facts = json.loads((place / "facts.json").read_text())
    facts["cohort"]["hash"] = "0" * 16
    (place / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="has changed since"):
        refit(Results.open(place), "pixels")


def test_a_target_of_patients_gives_a_row_a_patient(finished, taken):
    """All images of a patient are averaged before the head, as in a job."""
    results, workspace = finished
    predictor = Predictor.load(taken("pixels"))
    single = predictor.predictions(results.cohort_folder, workspace).units
    target = predictor.about.target.model_copy(update={"unit": "patient"})
    predictor.about = predictor.about.model_copy(update={"target": target})
    found = predictor.predictions(results.cohort_folder, workspace).units.set_index("unit")
    assert len(found) == 80 and (found.index == found["patient"]).all()
    odds = np.log(single["score_rough"] / single["score_calm"]).groupby(single["patient"]).mean()
    expected = 1 / (1 + np.exp(-odds))  # the head is linear
    assert found["score_rough"].reindex(odds.index).to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-4)


def test_patients_are_means_of_their_units(finished, taken):
    results, workspace = finished
    found = Predictor.load(taken("pixels")).predictions(results.cohort_folder, workspace)
    assert len(found.patients) == 80 and (found.patients["units"] == 2).all()
    means = found.units.groupby("patient")["probability_rough"].mean()
    assert found.patients.set_index("patient")["probability_rough"].to_dict() == pytest.approx(means.to_dict())
    assert isinstance(found.units, pd.DataFrame) and set(found.patients["predicted"]) == {"calm", "rough"}
