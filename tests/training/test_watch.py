"""Collapse is seen and health is left alone."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from medssl.config import View
from medssl.encoders import create_encoder
from medssl.pretext.simclr import SimCLR
from medssl.training import fit
from medssl.training import plan as plan_module
from medssl.training.watch import Neighbours, Watch, embedding_std, neighbours, rankme

sys.path.insert(0, str(Path(__file__).parent.parent / "pretext"))
from test_tasks import cubes, faces


def samples_of(images, dims=2):
    n = len(images)
    names = [f"s{i}" for i in range(n)]
    table = pd.DataFrame({"scan": names, "exam": names, "patient": names, "position_mm": np.nan})
    pixels = (images.numpy() * 255).astype(np.uint8)
    return SimpleNamespace(images=pixels, table=table, view=View(size=images.shape[-1], spatial_dims=dims), key="k")


class Alignment(SimCLR):
    """Views of an image shall agree, and nothing holds images apart."""

    name = "alignment"
    head = "norm"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        if self.head == "linear":
            self.projection = torch.nn.Linear(self.encoder.embed_dim, 64)

    def loss_of(self, embeddings, batch, generator):
        first, second = F.normalize(self.projection(embeddings).float(), dim=1).chunk(2)
        return 2 - 2 * (first * second).sum(1).mean(), {}


@pytest.mark.parametrize(("head", "steps"), [("norm", 200), ("linear", 100)])
def test_an_alignment_only_loss_is_reported_within_200_steps(tmp_path, monkeypatch, capsys, head, steps):
    monkeypatch.setattr(plan_module, "task_class", lambda name: Alignment)
    monkeypatch.setattr(Alignment, "head", head)
    result = fit(samples_of(faces(128, 16)), "alignment", out=tmp_path, steps=steps, batch=32)
    warned = result.history.dropna(subset="warning")
    assert len(warned) == 1 and warned["step"].iloc[0] <= 200
    assert "collapse" in warned["warning"].iloc[0] and "Try" in warned["warning"].iloc[0]
    said = capsys.readouterr().err
    assert "collapse" in said and result.as_json()["warnings"] == warned["warning"].tolist()


@pytest.mark.parametrize("name", ["inpainting", "rotation", "simclr"])
@pytest.mark.parametrize("dims", [2, 3])
def test_healthy_runs_are_left_alone(tmp_path, name, dims):
    samples, steps = (
        samples_of(faces(96, 16), 2) if dims == 2 else samples_of(cubes(64, 16), 3),
        200 if dims == 2 else 60,
    )
    settings = {"cells": 4} if name == "inpainting" else {}
    result = fit(samples, name, out=tmp_path, steps=steps, batch=32, settings=settings)
    assert "warning" not in result.history
    assert result.floor["rankme"] > 1 and result.history["rankme"].notna().sum() == steps // 10


def test_a_diverging_loss_is_said_once():
    watch, losses = Watch({"loss": 1.0}), [1, 0.5, *19 * [3], 0.5, *21 * [3]]
    found = [watch.look({"step": s, "loss": v}) for s, v in enumerate(losses)]
    assert [s for s, new in enumerate(found) if "divergence" in new] == [41], "a rise that passes is none"
    assert not Watch({"loss": 1.0}, watch.memory).look({"step": 9, "loss": 3.0}), "a resumed run does not say it again"


def test_one_head_may_sink_and_not_all_nor_the_encoder():
    floor = {f"{head}{what}": 2.0 for head in ("projection_", "predictor_") for what in ("std", "rankme")}
    floor |= {"loss": 1.0, "embedding_std": 0.5, "rankme": 40.0}
    watch = Watch(floor, heads=[["projection", "predictor", "own"]])
    line = {"step": 1, "loss": 0.5, "embedding_std": 0.25}
    assert watch.kept(line) == {}, "no ranks"
    line |= {"rankme": 20.0}
    line |= {"projection_std": 2.0, "projection_rankme": 0.2, "predictor_std": 0.2, "predictor_rankme": 0.2}
    assert watch.kept(line) == {"spread_kept": 0.1}
    assert watch.kept(line | {"projection_std": 0.2}) == {"spread_kept": 0.01}
    assert watch.kept(line | {"rankme": 2.0}) == {"spread_kept": 0.025}
    assert Watch({"loss": 1.0}).kept({"step": 1, "loss": 2.0}) == {}
    apart = Watch(floor, heads=[["projection"], ["predictor"]])
    assert apart.kept(line) == {"spread_kept": 0.01}, "of two groups the worse"
    silent = {key: value for key, value in line.items() if not key.startswith("projection")} | {"predictor_std": 0.02}
    assert watch.kept(silent) == {"spread_kept": 0.001}, "a head that gave nothing hides no other one"
    sunk = [watch.look(line | {"spread_kept": 0.01}) for _ in range(2)]
    assert sunk[0] == {} and "1.0% is left" in sunk[1]["collapse"]


def test_spread_and_rank_of_what_is_known():
    g = torch.Generator().manual_seed(0)
    sphere = torch.randn(512, 32, generator=g)
    assert embedding_std(sphere) == pytest.approx(1, abs=0.02) and rankme(sphere) > 30
    flat = sphere[:, :1] @ torch.randn(1, 32, generator=g)
    assert rankme(flat) == pytest.approx(1, abs=0.1)
    assert embedding_std(torch.ones(8, 32) + 1e-4 * sphere[:8]) < 0.01
    values = torch.linalg.svdvals(sphere.double())
    share = values / values.sum() + 1e-7
    assert rankme(sphere) == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-6)


def test_neighbours_see_classes_and_never_the_patient_himself():
    g = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 60)
    images = g.integers(0, 60, (120, 1, 16, 16), dtype=np.uint8)
    images[60:] += 120
    encoder = create_encoder("small").eval()
    every = np.arange(120)
    assert Neighbours(images, every, labels, every)(encoder, nullcontext()) > 0.95
    images = g.integers(0, 256, (60, 1, 16, 16), dtype=np.uint8).repeat(2, 0)  # each patient twice, same label
    labels = g.permutation(np.repeat(["a", "b"], 30)).repeat(2)
    assert abs(Neighbours(images, every, labels, every // 2)(encoder, nullcontext()) - 0.5) < 0.2


def test_labels_are_looked_at_where_there_are_enough():
    samples = samples_of(torch.rand(60, 1, 16, 16))
    keep = np.arange(60)
    assert neighbours(samples, keep, {}) is None and neighbours(samples, keep, {"s1": "a", "s2": "b"}) is None
    some = neighbours(samples, keep, {f"s{i}": "ab"[i % 2] for i in range(50)})
    assert some is not None and len(some.truth) == 50


def test_on_line_knn_goes_into_the_history_and_changes_nothing(tmp_path):
    samples = samples_of(faces(64, 16))
    labels = {f"s{i}": "ab"[i % 2] for i in range(64)}
    seen = fit(samples, "rotation", out=tmp_path / "a", steps=4, batch=16, labels=labels)
    blind = fit(samples, "rotation", out=tmp_path / "b", steps=4, batch=16)
    assert 0 <= seen.history["knn_auc"].iloc[-1] <= 1 and "knn_auc" not in blind.history
    assert seen.checkpoint.read_bytes() == blind.checkpoint.read_bytes()


def test_a_loss_below_its_floor_clears_those_who_cannot_cheat():
    floor = {"loss": 1.0}
    low, high = ({"step": 1, "loss": loss, "spread_kept": 0.02} for loss in (0.9, 1.0))
    for line, collapsible, says in ((low, False, False), (high, False, True), (low, True, True)):
        watch = Watch(floor, collapsible=collapsible)
        said = [watch.look(line) for _ in range(3)]
        assert any("collapse" in words for words in said) == says
    watch = Watch(floor, collapsible=False, steps=10)
    said = [watch.look(high | {"step": step}) for step in range(1, 8)]
    assert [bool(words) for words in said] == [False] * 5 + [True, False], "half of the run is given to come below"
