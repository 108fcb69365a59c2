"""Test cohorts from elsewhere: scored by the same models, refused where they share patients, audited for pictures."""

import json
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from medssl.cohort import Cohort
from medssl.cohort.arrays import content_hash, write_array
from medssl.errors import UserError
from medssl.experiment import Results, audit, run
from medssl.experiment.external import external_units
from medssl.experiment.labels import labeled_units, make_target
from medssl.report import render_report
from medssl.workspace import Workspace


def make_site(folder, seed, patient="SITE", copy=None):
    """40 patients with one image each, of the same two classes with weaker texture."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["file,patient,label"]
    for number in range(40):
        label = ("calm", "rough")[number % 2]
        grid = rng.normal(size=(32, 32)) if label == "rough" else np.repeat(rng.normal(size=(32, 8)), 4, 1)
        name = f"site{number}.png"
        Image.fromarray(np.clip(125 + 25 * grid, 0, 255).astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{patient}{number},{label}")
    if copy:
        shutil.copy(copy, folder / "copied.png")
        lines.append("copied.png,STRANGER,calm")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def elsewhere(finished, tmp_path):
    """Runs the tiny experiment again with an external cohort made by `make_site`."""
    results, workspace = finished
    place = Workspace(shutil.copytree(workspace.path, tmp_path / "workspace"))

    def go(**site):
        source = make_site(tmp_path / "site", 1, **site)
        labels = results.settings.cohort.labels.model_copy(update={"file": "labels.csv"})
        own = results.settings.cohort.model_copy(update={"name": "site", "source": str(source), "labels": labels})
        arms = {name: results.settings.arms[name] for name in ("pixels", "scratch", "simclr")}
        changes = {"external": [own], "name": "far", "arms": arms, "budgets": [2, 5]}
        return run(results.settings.model_copy(update=changes), place, processes=1)

    return go


def test_an_external_cohort_is_a_further_column(elsewhere, finished):
    results = elsewhere()
    evidence = results.evidence()
    assert set(evidence["split"]) == {"test", "external:site"}
    far, gaps = results.external()
    assert set(far["cohort"]) == {"site"} and far["units"].eq(40).all() and far["patients"].eq(40).all()
    cell = evidence[(evidence["arm"] == "scratch") & (evidence["budget"] == "5") & (evidence["cls"] == "rough")]
    own = cell[cell["split"] == "external:site"]
    expected = np.mean([roc_auc_score(job["truth"], job["score"]) for _, job in own.groupby("draw")])
    shown = far[(far["arm"] == "scratch") & (far["budget"] == 5) & (far["metric"] == "auc")]
    assert shown["score"].tolist() == pytest.approx([expected], abs=1e-6)
    assert not gaps["claim"].any() and set(gaps["verdict"]) <= {"helps", "hurts", "no evidence"}
    alone = finished[0].scores()
    here = results.scores().merge(alone, on=["arm", "budget", "metric"], suffixes=("", "_alone"))
    pixels = here[here["arm"] == "pixels"]
    assert len(pixels) and pixels["score"].tolist() == pytest.approx(pixels["score_alone"].tolist())
    assert all(check.passed for check in audit(results.path)), audit(results.path)
    page = render_report(results)
    assert "site, 40 images of 40 patients: difference to scratch" in page
    pd.testing.assert_frame_equal(Results.open(results.path).external()[0], far, check_dtype=False)


def test_external_patients_are_looked_at_with_the_test_split_alone(elsewhere):
    results = elsewhere()
    tuned = run(
        results.settings.model_copy(update={"evaluate": "validation", "name": "tuning"}),
        Workspace(results.path.parent.parent),
        processes=1,
    )
    assert set(tuned.evidence()["split"]) == {"validation"} and tuned.external()[0].empty
    assert all(check.passed for check in audit(tuned.path))


def from_the_pool(results, workspace, part="pool"):
    """Pixels of a scan of that part."""
    cohort = Cohort.open(workspace.cohort("tiny"))
    patients = json.loads((results.path / "split.json").read_text())[part]
    return np.array(cohort.array(cohort.scans().set_index("patient").loc[patients[0], "scan"].iloc[0]))


@pytest.mark.parametrize("brighter", [0, 6], ids=["the same", "brightened"])
def test_a_picture_of_the_own_cohort_is_refused(elsewhere, finished, tmp_path, brighter):
    pixels = from_the_pool(*finished)
    Image.fromarray(np.clip(pixels.astype(int) + brighter, 0, 255).astype(np.uint8)).save(tmp_path / "known.png")
    with pytest.raises(UserError, match=r"1 picture\(s\) of external cohort 'site' are also in 'tiny'") as problem:
        elsewhere(copy=tmp_path / "known.png")
    assert "there: s" in problem.value.what and str(tmp_path) not in str(problem.value)


@pytest.mark.parametrize(
    ("part", "brighter", "check"),
    [("pool", 0, "exact duplicates"), ("validation", 0, "exact duplicates"), ("pool", 6, "near duplicates")],
)
def test_a_picture_that_was_learned_from_in_an_external_cohort_fails_the_audit(
    elsewhere, finished, part, brighter, check
):
    """Validation patients give no labels, but they are pretrained on."""
    results = elsewhere()
    site = Cohort.open(results.path.parent.parent / "cohorts" / "site")
    scan = site.scans()["scan"].iloc[0]
    pixels = np.clip(from_the_pool(*finished, part).astype(int) + brighter, 0, 255).astype(np.uint8)
    write_array(site.path, scan, pixels)
    with sqlite3.connect(site.path / "catalog.sqlite") as db:
        db.execute("UPDATE scans SET content_hash=? WHERE scan=?", (content_hash(pixels), scan))
    found = {c.name: c for c in audit(results.path)}
    assert not found[check].passed and "external cohort 'site'" in found[check].sentence
    assert found["patients"].passed and found["tables"].passed


def test_patients_of_the_own_cohort_are_refused(elsewhere):
    with pytest.raises(UserError, match="are also in 'tiny'"):
        elsewhere(patient="PATIENT")


def test_patients_without_a_label_are_pretrained_on_and_refused_too(finished):
    """At home nobody whom the external cohort labels has a label."""
    results, workspace = finished
    home = Cohort.open(workspace.cohort("tiny"))
    units = labeled_units(home, results.settings.target)
    target = make_target(results.settings.target, units["label"].tolist())
    nobody = units.iloc[:2].assign(patient=["x", "y"], label=target.classes)
    with pytest.raises(UserError, match=r"80 patient\(s\) of external cohort 'tiny' are also in 'tiny'"):
        external_units(home, results.settings, home, nobody, target)
