"""Features of a cohort under any encoder, computed once; what is known of the scans; maps, neighbours, clusters."""

import os
import sys
import types

import numpy as np
import pandas as pd
import pytest
from synthetic_cohort import write_cohort, write_encoder, write_volumes

from medssl.config import View
from medssl.encoders import embed_all
from medssl.errors import UserError
from medssl.experiment import embedding as room
from medssl.experiment.embedding import features as computing
from medssl.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(workspace, cohort) with one pretrained encoder. Tests must not change them."""
    folder = tmp_path_factory.mktemp("workspace")
    cohort = write_cohort(folder)
    write_encoder(folder)
    return Workspace(folder), cohort


def source(made, key):
    workspace, cohort = made
    return next(s for s in room.sources(workspace, cohort, View(size=32)) if s.key == key)


def test_sources_are_all_encoders_of_the_workspace_and_three_that_know_nothing(made):
    workspace, cohort = made
    found = room.sources(workspace, cohort, View(size=32))
    keys = [s.key for s in found]
    assert keys == ["virtual-simclr-0123456789", "imagenet", "imagenet-224", "random", "pixels"]
    assert found[0].label == "simclr on virtual (small, 32 px, 800 steps)"
    assert found[2].view.size == 224 and len({s.identity for s in found}) == 4


def test_own_encoders_stand_first_newest_ahead_and_unfinished_ones_are_left_out(tmp_path):
    cohort = write_cohort(tmp_path, scans=4)
    for age, (key, of) in enumerate({"z-new": "virtual", "a-old": "virtual", "a-elsewhere": "other"}.items()):
        os.utime(write_encoder(tmp_path, key, of) / "checkpoint.safetensors", (1e9 - age, 1e9 - age))
    (write_encoder(tmp_path, "unfinished") / "checkpoint.safetensors").unlink()
    (write_encoder(tmp_path, "damaged") / "run.json").write_text("{")
    found = room.sources(Workspace(tmp_path), cohort, View(size=32))
    assert [s.key for s in found[:3]] == ["z-new", "a-old", "a-elsewhere"]
    assert len({s.label for s in found}) == len(found)  # two seeds of one run are told apart


def test_in_3d_only_what_works_there_is_offered(made):
    workspace, cohort = made
    keys = [s.key for s in room.sources(workspace, cohort, View(size=32, spatial_dims=3))]
    assert keys[1:] == ["random"]


def test_features_are_those_of_the_encoder_and_are_kept(made):
    workspace, cohort = made
    chosen = source(made, "virtual-simclr-0123456789")
    task = room.prepare(chosen, cohort, workspace)
    assert not task.finished and task.done == 0 and room.estimate(task) > 0
    seen = []
    found = room.embed_scans(task, lambda done, of, left: seen.append((done, of, left)))
    assert seen[-1] == (60, 60, 0)
    assert np.allclose(found.values, embed_all(chosen.make(), task.samples.images), atol=1e-5)
    assert found.scans.tolist() == task.samples.table["scan"].tolist()
    assert task.finished and room.estimate(task) == 0
    room.embed_scans(room.prepare(chosen, cohort, workspace), lambda *_: pytest.fail("computed twice"))


def test_features_of_a_volume_are_the_mean_of_its_slices(tmp_path):
    cohort = write_volumes(tmp_path)
    workspace = Workspace(tmp_path)
    pixels = next(s for s in room.sources(workspace, cohort, View(size=16)) if s.key == "pixels")
    task = room.prepare(pixels, cohort, workspace)
    found = room.embed_scans(task)
    first = task.samples.table["scan"] == found.scans[1]
    assert found.values.shape == (3, 256)
    assert np.allclose(found.values[1], task.samples.images[first.to_numpy()].reshape(-1, 256).mean(0) / 255, atol=1e-5)
    middles = task.samples.table["slice"].iloc[found.first].tolist()
    assert middles == [n // 2 for n in task.samples.table.groupby("scan", sort=False).size()]


def test_a_computation_that_was_cut_off_goes_on(made, tmp_path, monkeypatch):
    workspace, cohort = made
    task = room.prepare(source(made, "random"), cohort, workspace)
    monkeypatch.setattr(computing, "PIXELS_AT_ONCE", 16 * 32 * 32)

    def leave(done, of, left):
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.embed_scans(task, leave)
    assert not task.finished and task.done == 32
    seen = []
    found = room.embed_scans(task, lambda done, of, left: seen.append(done))
    assert seen == [48, 60]
    assert np.allclose(found.values, embed_all(task.source.make(), task.samples.images), atol=1e-5)
    assert not list(workspace.features("x").parent.glob("*.partial.npy"))


def test_facts_are_words_in_the_order_of_the_scans(made):
    _, cohort = made
    scans = cohort.scans()["scan"].to_numpy()[::-1]
    table = room.facts(cohort, scans)
    assert list(table) == ["label: lesion", "part of the split", "vendor", "pixel spacing", "patient"]
    number = [int(s[1:]) for s in scans]
    assert table["label: lesion"].tolist() == ["lesion" if n % 2 else "none" for n in number]
    assert set(table["pixel spacing"]) == {"0.2 mm", "0.3 mm"}
    assert (table["vendor"] == "GE").equals(table["pixel spacing"] == "0.3 mm")
    assert set(table["part of the split"]) == {"pool", "validation", "test"}


def test_many_numbers_become_thirds_and_few_stay():
    from medssl.experiment.embedding.facts import banded

    assert banded(pd.Series([0.5, None, 1.0]), "mm") == ["0.5 mm", None, "1 mm"]
    thirds = banded(pd.Series(np.arange(30.0)))
    assert len(set(thirds)) == 3 and thirds[0] == "0 to 9.67" and thirds.count(thirds[0]) == 10


def test_principal_axes_hold_the_standardised_distances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 9)) * np.arange(1, 10)
    found = room.principal(x)
    standard = (x - x.mean(0)) / x.std(0)
    assert found.shape == (50, 9) and np.allclose(found @ found.T, standard @ standard.T, atol=1e-2)
    assert (np.diff(found.std(0)) < 1e-4).all()
    assert np.allclose(room.project(found), found[:, :2])
    assert room.principal(x, 3).shape == (50, 3)


def test_umap_is_taken_where_it_is_installed_and_else_said_in_a_sentence(monkeypatch):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match="UMAP is not installed") as said:
        room.project(x, "umap")
    assert "medssl[umap]" in said.value.fix

    class UMAP:
        def __init__(self, n_neighbors, random_state):
            pass

        def fit_transform(self, values):
            return values[:, :2] * 3

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    assert np.allclose(room.project(x, "umap"), 3 * x[:, :2])
    with pytest.raises(UserError, match="more than 15 scans"):
        room.project(x[:15], "umap")


def test_nearest_are_by_cosine_and_never_the_scan_itself():
    x = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0]], np.float32)
    found, alike = room.nearest(x, 0, 3)
    assert found.tolist() == [1, 2, 3] and np.allclose(alike, [2 / np.hypot(2, 0.1), 0, -1], atol=1e-6)
    assert len(room.nearest(x, 2, 12)[0]) == 3


def test_clusters_are_found_and_numbered_by_size():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.1, (10, 2)), rng.normal(5, 0.1, (30, 2))])
    assert room.clusters(x, 2).tolist() == [1] * 10 + [0] * 30


def test_a_sample_is_drawn_of_very_many():
    some = room.drawn(100_000, 4000)
    assert len(set(some.tolist())) == 4000 and (np.diff(some) > 0).all() and some.max() < 100_000
    assert room.drawn(10, 4000).tolist() == list(range(10))
