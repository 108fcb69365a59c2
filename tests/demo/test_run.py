"""The quick demo, from nothing to the report, as a newcomer runs it."""

import json

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.experiment import Results


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    place = tmp_path_factory.mktemp("demo") / "workspace"
    done = CliRunner().invoke(app, ["demo", "--quick", "--json", "--workspace", str(place)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), place


def test_it_ends_with_a_curve_and_a_report_that_stand_alone(answer):
    found, place = answer
    results = Results.open(found["experiment"])
    assert results.complete and results.path == place / "experiments" / "demo_quick"
    for key in ("report", "figure"):
        assert (results.path / found[key]).stat().st_size > 10_000
    report = (results.path / "report.html").read_text()
    assert "virtual" in report and "no evidence" in report


def test_every_arm_is_scored_at_every_budget(answer):
    found, _ = answer
    arms = {"pixels", "random", "scratch", "imagenet", "rotation", "inpainting", "simclr", "imagenet_simclr"}
    assert {row["arm"] for row in found["scores"]} == arms
    assert {row["budget"] for row in found["scores"]} == {2, 5, 10, "all"}
    assert all(row["low"] is not None and row["low"] <= row["score"] <= row["high"] for row in found["scores"])
    assert {row["verdict"] for row in found["differences"]} <= {"helps", "hurts", "no evidence"}


def test_scans_came_in_as_dicom_and_nifti_and_every_file_is_accounted_for(answer):
    from medssl.cohort import Cohort

    cohort = Cohort.open(answer[1] / "cohorts" / "demo_quick")
    assert len(cohort) == 80 and cohort.scans()["patient"].nunique() == 80
    assert set(cohort.files()["status"]) <= {"accepted", "ignored"}
    assert cohort.scans()["vendor"].nunique() >= 2
