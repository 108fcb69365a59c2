"""The arms without deep learning run like any other, and are taken away like any other."""

import shutil

import pytest

from medssl.experiment import run
from medssl.experiment.predictor import Predictor
from medssl.report import write_predictor
from medssl.workspace import Workspace


def test_radiomics_and_boosting_are_an_arm_and_a_predictor(finished, tmp_path):
    results, own = finished
    shutil.copytree(
        own.path, tmp_path / "workspace"
    )  # another look at its test patients stays out of the shared ledger
    workspace = Workspace(tmp_path / "workspace")
    arms = {"radiomics": {"encoder": "radiomics", "strategy": {"name": "gradient_boosting", "rounds": 20}}}
    changes = {"name": "baselines", "arms": arms, "baseline": "radiomics", "claim": None, "budgets": [2, "all"]}
    raw = {**results.settings.model_dump(mode="json"), **changes, "pretraining": {}}
    mine = run(type(results.settings).model_validate(raw), workspace, processes=1)
    assert mine.scores().query("metric == 'auc' and budget == 'all'")["score"].item() > 0.9  # the classes are textures
    assert mine.arms()["init"].item() == "none"
    write_predictor(mine.path, "radiomics", tmp_path / "taken")
    predictor = Predictor.load(tmp_path / "taken")
    assert predictor.about.encoder == "radiomics" and predictor.about.head == "trees"
    found = predictor.predictions(mine.cohort_folder, workspace).units.set_index("unit")["score_rough"]
    rows = mine.evidence().query("budget == 'all' and draw == 0 and cls == 'rough'").set_index("unit")["score"]
    assert found.reindex(rows.index).to_numpy() == pytest.approx(rows.to_numpy(), abs=1e-5)
