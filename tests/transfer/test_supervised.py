"""Supervised pretraining: it learns labels in the engine of the pretext tasks, and unlabeled samples add nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from medssl.config import View
from medssl.encoders import load_checkpoint
from medssl.errors import UserError
from medssl.pretext import tasks
from medssl.training import fit
from medssl.transfer import target_kind
from medssl.transfer.supervised import supervised_task

TARGET = target_kind("classification", ["flat", "steep"])


class Made:
    """64 samples of horizontal or vertical stripes."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.truth = np.arange(64) % 2
        stripes = np.where(np.arange(32) % 4 < 2, 1.0, -1.0)
        pattern = np.where(self.truth[:, None, None] == 1, stripes[:, None], stripes[None, :])
        images = 128 + 30 * rng.normal(size=(64, 32, 32)) + 40 * pattern
        self.images = np.clip(images, 0, 255).astype(np.uint8)[:, None]
        names = [f"s{n}" for n in range(64)]
        self.table = pd.DataFrame({"scan": names, "patient": names, "exam": names, "position_mm": np.nan})
        self.view, self.key = View(size=32), f"made {seed}"


def learn(out, made, labeled=None, labels="x", steps=30):
    kind = supervised_task(TARGET, made.truth, np.ones(64, bool) if labeled is None else labeled)
    return fit(made, kind, out=out, settings={"labels": labels}, steps=steps, batch=32)


def test_it_learns_and_leaves_a_checkpoint_with_its_head(tmp_path):
    made = Made()
    done = learn(tmp_path / "run", made)
    assert done.task == "supervised" and done.floor["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert done.history["loss"].iloc[-1] < 0.3
    loaded, new = load_checkpoint(done.checkpoint), Made(1)
    with torch.inference_mode():
        features = loaded.encoder.embed(torch.from_numpy(new.images).float() / 255)
        said = torch.nn.functional.linear(features, loaded.heads["head"]["weight"], loaded.heads["head"]["bias"])
    assert (said.argmax(1).numpy() == new.truth).mean() > 0.9
    assert set(loaded.heads["head"]) == {"weight", "bias"} and list(loaded.heads) == ["head"]


def test_other_labels_are_another_run(tmp_path):
    made = Made()
    learn(tmp_path / "run", made, steps=2)
    assert learn(tmp_path / "run", made, steps=2).resumed_from == 2  # the same again: nothing is done
    with pytest.raises(UserError, match="differs in settings"):
        learn(tmp_path / "run", made, labels="y", steps=2)


def test_unlabeled_samples_add_nothing(tmp_path):
    """What stands in place of a missing label is never looked at."""
    one, two = Made(), Made()
    labeled = np.arange(64) < 48
    two.truth = np.where(labeled, two.truth, 1 - two.truth)
    weights = []
    for name, made in (("one", one), ("two", two)):
        weights.append(load_checkpoint(learn(tmp_path / name, made, labeled, steps=3).checkpoint).heads["head"])
    assert torch.equal(weights[0]["weight"], weights[1]["weight"])


@pytest.mark.parametrize("kind", ["regression", "multilabel", "ordinal"])
def test_it_learns_every_kind_of_label(tmp_path, kind):
    made = Made()
    labels = {"regression": ["20", "80"], "multilabel": ["steep", "flat|thin"], "ordinal": ["0", "2"]}[kind]
    target = target_kind(kind, [*labels, "1"] if kind == "ordinal" else labels)
    truth = target.encode([labels[value] for value in made.truth])
    task = supervised_task(target.taught(truth), truth, np.ones(64, bool))
    done = fit(made, task, out=tmp_path / "run", settings={"labels": kind}, steps=30, batch=32)
    assert done.history["loss"].iloc[-1] < 0.5 * done.floor["loss"]


def test_it_is_no_pretext_task():
    assert "supervised" not in tasks()
