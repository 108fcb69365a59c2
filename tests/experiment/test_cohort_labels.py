"""An experiment's table of labels is the one that its cohort has its labels from, or is refused."""

import shlex
import shutil

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import Experiment, validate
from medssl.errors import UserError
from medssl.experiment.prepare import ensure_cohort


@pytest.fixture
def source(tiny_raw, tiny_source, tmp_path):
    """The source of the tiny experiment, copied so that its table may be changed."""
    folder = shutil.copytree(tiny_source, tmp_path / "scans")
    return validate(Experiment, {**tiny_raw, "cohort": {**tiny_raw["cohort"], "source": str(folder)}}, "tiny").cohort


def test_a_table_that_was_corrected_is_not_passed_over(source, workspace, tmp_path):
    ensure_cohort(source, workspace)
    cohort = ensure_cohort(source, workspace)  # nothing has changed
    table = tmp_path / "scans" / "labels.csv"
    table.write_text(table.read_text().replace("PATIENT3,rough", "PATIENT3,calm"))
    with pytest.raises(UserError, match="not the one that cohort 'tiny' has its labels from") as problem:
        ensure_cohort(source, workspace)
    command = shlex.split(problem.value.fix.partition("`")[2].partition("`")[0].replace("LABELS", str(table)))
    done = CliRunner().invoke(app, [*command[1:], "--workspace", str(workspace.path)])
    assert done.exit_code == 0 and command[:3] == ["medssl", "label", str(cohort.path)], done.output
    labels = ensure_cohort(source, workspace).labels("label")["value"].value_counts()
    assert labels["calm"] == 82 and labels["rough"] == 78


def test_a_column_that_the_table_has_not_is_said_though_the_cohort_is_there(source, workspace):
    ensure_cohort(source, workspace)
    columns = source.labels.model_copy(update={"patient": "patint"})
    with pytest.raises(UserError, match="Did you mean 'patient'"):
        ensure_cohort(source.model_copy(update={"labels": columns}), workspace)


def test_a_cohort_outlives_its_source(source, workspace, tmp_path):
    ensure_cohort(source, workspace)
    shutil.rmtree(tmp_path / "scans")
    assert len(ensure_cohort(source, workspace)) == 160
