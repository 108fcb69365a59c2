"""The engine: resumes bit for bit, never overwrites, never computes twice, says what is wrong."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medssl.config import View
from medssl.encoders import create_encoder, load_checkpoint, save_checkpoint
from medssl.errors import MedsslError, UserError
from medssl.pretext.simclr import SimCLR
from medssl.training import fit
from medssl.training.run import steps_for
from medssl.training.state import states
from medssl.workspace import lock


def samples(n=48, size=16, channels=1, key="fake", dims=2):
    images = np.random.default_rng(0).integers(0, 256, (n, channels, *[size] * dims), dtype=np.uint8)
    table = pd.DataFrame(
        {
            "scan": [f"s{i}" for i in range(n)],
            "exam": [f"e{i}" for i in range(n)],
            "patient": [f"p{i // 2}" for i in range(n)],
            "position_mm": np.nan,
        }
    )
    return SimpleNamespace(
        images=images, table=table, view=View(size=size, channels=channels, spatial_dims=dims), key=key
    )


def run(out, task="simclr", steps=8, data=None, dims=2, **options):
    return fit(data or samples(dims=dims), task, out=out, steps=steps, batch=16, **options)


def weights(result):
    return load_file(result.checkpoint)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_leaves_checkpoint_history_and_settings(tmp_path):
    result = run(tmp_path / "a", steps=10)
    history = result.history
    assert result.steps == 10 and result.resumed_from == 0 and result.images_per_second > 0
    assert history["step"].tolist() == list(range(1, 11))
    for column in ("loss", "accuracy", "learning_rate", "images_per_second", "grad_norm", "embedding_std"):
        assert np.isfinite(history[column]).all(), column
    encoder, about, report, heads = load_checkpoint(result.checkpoint)
    identity = about["identity"]
    assert identity["task"] == "simclr" and identity["view"]["size"] == 16 and identity["batch"] == 16
    assert not report.missing and "projection" in heads and not encoder.training
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "finished"
    assert json.loads(json.dumps(result.as_json()))["steps"] == 10
    assert not (tmp_path / "a" / "state").exists()


def test_training_changes_the_weights_and_the_seed_decides_them(tmp_path):
    one, same, other = (run(tmp_path / n, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert equal(weights(one), weights(same)) and not equal(weights(one), weights(other))
    start = create_encoder("small", seed=0).state_dict()
    assert not torch.equal(weights(one)["encoder.stem.0.weight"], start["stem.0.weight"])


def test_what_is_said_of_a_run_is_said_in_our_words(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(tmp_path, steps=1, precision="bf16")
    assert "Mixed Precision" not in caplog.text


def test_a_finished_run_is_not_computed_again(tmp_path, monkeypatch):
    first = run(tmp_path)
    stamp = first.checkpoint.stat().st_mtime_ns
    monkeypatch.setattr(SimCLR, "loss", lambda *a: pytest.fail("trained again"))
    again = run(tmp_path)
    assert again.checkpoint.stat().st_mtime_ns == stamp and again.resumed_from == again.steps == 8
    assert again.images_per_second == first.images_per_second and again.floor == first.floor


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"steps": 9}, "steps"),
        ({"settings": {"temperature": 0.3}}, "settings"),
        ({"task": "rotation"}, "task"),
        ({"exclude": {"p0"}}, "excluded"),
        ({"data": samples(key="other")}, "samples"),
        ({"data": samples(size=32)}, "view"),
        ({"encoder": "small_gn"}, "encoder"),
    ],
)
def test_another_run_is_not_overwritten(tmp_path, change, named):
    stamp = run(tmp_path).checkpoint.stat().st_mtime_ns
    with pytest.raises(UserError, match=f"differs in .*{named}"):
        run(tmp_path, **change)
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == stamp


def test_a_foreign_checkpoint_is_not_overwritten(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.safetensors", create_encoder("small"))
    with pytest.raises(UserError, match="unknown origin"):
        run(tmp_path)


def test_two_runs_never_share_a_folder(tmp_path):
    holder = f"process {os.getpid()} on .+ is training into"
    with lock(tmp_path, "training into", ""), pytest.raises(UserError, match=holder):
        run(tmp_path)
    run(tmp_path, steps=1)


def test_excluded_patients_are_never_seen(tmp_path, monkeypatch):
    seen = set()
    loss = SimCLR.loss

    def spy(self, batch, generator):
        seen.update(batch.index.tolist())
        return loss(self, batch, generator)

    monkeypatch.setattr(SimCLR, "loss", spy)
    run(tmp_path, exclude={"p0", "p5", "nobody"}, steps=6)
    assert len(seen) > 32 and not seen & {0, 1, 10, 11}


def test_epochs_and_minutes_become_steps(tmp_path):
    assert run(tmp_path / "e", steps=None, epochs=2).steps == 6
    timed = run(tmp_path / "m", steps=None, minutes=0.01)
    assert timed.steps >= 1
    assert run(tmp_path / "m", steps=None, minutes=0.01).resumed_from == timed.steps
    with pytest.raises(UserError, match="Give one"):
        run(tmp_path / "x", steps=3, epochs=2)


def test_a_loss_that_is_no_number_is_said_and_not_saved(tmp_path, monkeypatch):
    loss = SimCLR.loss

    def explode(self, batch, generator):
        value, metrics = loss(self, batch, generator)
        return value * (float("nan") if explode.calls > 7 else 1), metrics

    explode.calls = 0
    monkeypatch.setattr(
        SimCLR, "loss", lambda s, b, g: (setattr(explode, "calls", explode.calls + 1), explode(s, b, g))[1]
    )
    with pytest.raises(MedsslError, match="learning rate"):
        run(tmp_path, checkpoint_every=2)
    saved = load_file(states(tmp_path / "state")[0])
    assert all(torch.isfinite(v.float()).all() for v in saved.values())
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 64}, "48 to train on"),
        ({"batch": 1}, "at least 2"),
        ({"precision": "16"}, "'auto', '32' or 'bf16'"),
        ({"settings": {"temprature": 1}}, "temperature"),
        ({"encoder": "smal"}, "small"),
        ({"steps": 0}, "greater than 0"),
        ({"exclude": {f"p{i}" for i in range(24)}}, "0 to train on"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_step(tmp_path, options, says):
    with pytest.raises(UserError, match=says):
        fit(samples(), "simclr", out=tmp_path, **{"batch": 16, "steps": 4, **options})
    assert not (tmp_path / "run.json").exists()


def test_pretraining_goes_on_from_weights(tmp_path):
    first = run(tmp_path / "a", steps=4)
    second = run(tmp_path / "b", task="rotation", steps=1, weights=str(first.checkpoint), learning_rate=1e-9)
    stem = "encoder.stem.0.weight"
    assert torch.allclose(weights(first)[stem], weights(second)[stem], atol=1e-6)


def test_bf16_trains_with_images_that_were_not_rounded(tmp_path, monkeypatch):
    kinds = set()
    views = SimCLR.inputs

    def spy(self, batch, generator):
        kinds.update((batch.images.dtype, batch.position.dtype))
        return views(self, batch, generator)

    monkeypatch.setattr(SimCLR, "inputs", spy)
    half, full = (run(tmp_path / p, steps=3, precision=p) for p in ("bf16", "32"))
    assert kinds == {torch.float32} and not equal(weights(half), weights(full))
    assert half.history["loss"].to_numpy() == pytest.approx(full.history["loss"].to_numpy(), rel=0.05)
    assert weights(half)["encoder.stem.0.weight"].dtype == torch.float32


@pytest.mark.parametrize(("task", "whole"), [("jigsaw", True), ("rotation", False)])
def test_a_task_of_tiles_ends_with_the_batch_statistics_of_whole_images(tmp_path, task, whole):
    data = samples(n=32, size=36)
    encoder = load_checkpoint(run(tmp_path, task, data=data).checkpoint)[0]
    norm = encoder.stem[1]
    with torch.no_grad():  # 32 images are two batches of 16, so that their mean is that of all
        settled = encoder.stem[0](encoder.normalise(torch.from_numpy(data.images) / 255)).mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, settled, atol=1e-4) == whole
    assert norm.momentum == 0.1


def test_the_trial_that_finds_the_steps_counts_as_well(monkeypatch):
    """Seven steps of half a second go before; .95 of a minute would hold 114 of them."""
    now = [0.0]

    def step(number):
        now[0] += 0.5
        return {"loss": torch.zeros(())}

    monkeypatch.setattr("medssl.training.run.time", SimpleNamespace(monotonic=lambda: now[0]))
    loop = SimpleNamespace(guarded_step=step, feed=SimpleNamespace(close=lambda: None))
    assert steps_for(1, loop) == 107
