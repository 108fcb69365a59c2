import json
import shutil
import sqlite3

import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.experiment import Results
from medssl.experiment.groups import _bands
from medssl.report import render_report


@pytest.fixture
def vendors(finished, tmp_path):
    """A copy of the finished run whose scans come from two vendors and have ages."""
    place = tmp_path / "copy"
    shutil.copytree(finished[1].path, place)
    with sqlite3.connect(place / "cohorts" / "tiny" / "catalog.sqlite") as db:
        for number, (scan, patient) in enumerate(db.execute("SELECT scan, patient FROM scans").fetchall()):
            vendor, age = ("one" if int(patient[1:], 16) % 2 else "two"), 20 + number % 60
            attributes = json.dumps({"age_years": age})
            db.execute("UPDATE scans SET vendor=?, attributes=? WHERE scan=?", (vendor, attributes, scan))
    return Results.open(place / "experiments" / "tiny")


def test_subgroups_have_their_own_scores_and_numbers(vendors):
    table = vendors.subgroups("vendor")
    sizes = table.groupby("group")[["units", "patients"]].first()
    whole = vendors.scores().iloc[0]
    assert list(sizes.index) == ["one", "two"] and sizes["units"].sum() == whole["units"]
    assert sizes["patients"].sum() == whole["patients"] and set(table["arm"]) == {"simclr", "scratch"}
    evidence = vendors.evidence()
    scans = vendors.cohort_folder / "catalog.sqlite"
    with sqlite3.connect(scans) as db:
        vendor = dict(db.execute("SELECT scan, vendor FROM scans").fetchall())
    part = evidence[(evidence["unit"].map(vendor) == "one") & (evidence["cls"] == "rough")]
    cell = part[(part["arm"] == "scratch") & (part["budget"] == "5")]
    from sklearn.metrics import roc_auc_score

    expected = cell.groupby("draw").apply(lambda job: roc_auc_score(job["truth"], job["score"])).mean()
    shown = table[(table["group"] == "one") & (table["arm"] == "scratch") & (table["budget"] == 5)]
    assert shown["score"].tolist() == pytest.approx([expected])


def test_the_report_looks_into_what_tells_patients_apart(vendors, finished):
    assert vendors.attributes() == ["age_years", "vendor"] and finished[0].attributes() == []
    page = render_report(vendors)
    assert "By vendor" in page and "By age years" in page and "40 to 65" in page
    assert "Subgroups of the test patients" not in render_report(finished[0])


def test_an_attribute_that_nobody_has_is_refused(vendors):
    with pytest.raises(UserError, match="Did you mean 'vendor'"):
        vendors.subgroups("vendr")


def test_bands():
    assert _bands(pd.Series([5, 30, 90]), "age_years") == ["0 to 18", "18 to 40", "65 to 120"]
    assert _bands(pd.Series(["M", "F"]), "sex") == ["M", "F"]
    assert _bands(pd.Series([1.0, 2.0, 3.0, 4.0]), "echo_time_ms") == ["1 to 2", "1 to 2", "2 to 3", "3 to 4"]
