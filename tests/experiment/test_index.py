"""The index of jobs may lie in a database that several workspaces share."""

import shutil

from medssl.experiment import Results, run
from medssl.workspace import Workspace


def test_results_are_seen_through_a_shared_index_and_workspaces_do_not_meet(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_INDEX", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    arms = {name: finished[0].settings.arms[name] for name in ("pixels", "random")}
    changes = {"name": "shared", "arms": arms, "budgets": [2], "baseline": ["pixels"], "claim": None}
    config = finished[0].settings.model_copy(update=changes)
    found = []
    for name in ("here", "there"):
        place = Workspace(shutil.copytree(finished[1].path, tmp_path / name))
        found.append(run(config, place, processes=1))
        assert not (found[-1].path / "jobs.sqlite").exists()
    for results in found:
        again = Results.open(results.path)
        assert again.complete and again.progress() == ({"done": 6}, "") and len(again.jobs()) == 6
        assert set(again.scores()["arm"]) == {"pixels", "random"}
    unseen = Results.open(finished[0].path)
    assert unseen.progress() == ({}, "") and unseen.jobs().empty
