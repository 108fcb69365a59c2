"""Results: how far an experiment is, and differences to any arm."""

from __future__ import annotations

import pytest
from synthetic import write_experiment

from medssl.errors import UserError
from medssl.experiment import Results
from medssl.experiment.index import Index


def test_differences_to_an_arm_that_is_no_baseline_are_computed_once(tmp_path, monkeypatch):
    results = Results.open(write_experiment(tmp_path))
    named, other = results.against("scratch"), results.against("rotation")
    assert set(named["baseline"]) == {"scratch"} and len(named) == len(
        results.differences().query("baseline == 'scratch'")
    )
    assert set(other["arm"]) == {"pixels", "scratch", "simclr"} and set(other["baseline"]) == {"rotation"}
    turned = other.query("arm == 'scratch' and metric == 'auc'").set_index("budget")["difference"]
    mine = named.query("arm == 'rotation' and metric == 'auc'").set_index("budget")["difference"]
    assert turned.to_dict() == pytest.approx((-mine).to_dict())
    monkeypatch.setattr("medssl.experiment.results.compute_against", lambda *_: pytest.fail("computed again"))
    again = Results.open(results.path).against("rotation")
    assert again["difference"].tolist() == pytest.approx(other["difference"].tolist())
    with pytest.raises(UserError, match="Did you mean 'simclr'"):
        results.against("simcrl")


def test_progress_counts_jobs_by_status_and_names_the_first_failure(tmp_path):
    folder = write_experiment(tmp_path, draws=1, test_units=10)
    results = Results.open(folder)
    assert results.progress() == ({"done": 12}, "") and results.complete
    index = Index(folder)
    for key in results.jobs()["job"].tolist()[3:5]:
        index.finish(key, None, f"{key}: the disk is full")
    index.close()
    assert results.progress() == ({"done": 10, "failed": 2}, f"{results.jobs()['job'][3]}: the disk is full")
    assert not results.complete
    (folder / "jobs.sqlite").unlink()
    assert results.progress() == ({}, "") and not results.complete
