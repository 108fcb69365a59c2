"""The feed, the rules and the optimizer's state, each alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from medssl.training import feed as feed_module
from medssl.training import rules
from medssl.training.feed import Feed
from medssl.training.history import History, read_lines
from medssl.training.sampling import Sampling
from medssl.training.state import load_state, save_state

CPU = torch.device("cpu")


def make_feed(n=50, batch=8, keep=None, **options):
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    table = pd.DataFrame(
        {
            "scan": np.arange(n),
            "exam": np.arange(n) // 2,
            "patient": np.arange(n) // 5,
            "position_mm": 2.0 * np.arange(n),
        }
    )
    keep = np.arange(n) if keep is None else keep
    return Feed(images, table, keep, Sampling(table, keep, "image", 1, batch, 0), CPU, **options)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    feed = make_feed()
    epochs = [[int(i) for s in range(6) for i in feed.sampling(e * 6 + s)] for e in range(2)]
    assert all(len(set(e)) == 48 for e in epochs) and epochs[0] != epochs[1]
    assert make_feed().sampling(7).tolist() == feed.sampling(7).tolist()


def test_a_batch_carries_its_own_ids_and_pixels():
    keep = np.arange(3, 47)
    batch = make_feed(keep=keep)(5)
    assert torch.equal((batch.images[:, 0, 0, 0] * 255).round().long(), batch.index)
    assert torch.equal(batch.position, 2.0 * batch.index.float())
    same_patient = batch.patient[:, None] == batch.patient[None]
    assert torch.equal(same_patient, batch.index[:, None] // 5 == batch.index[None] // 5)
    assert batch.rows.tolist() == list(range(8)) and set(batch.index.tolist()) <= set(keep.tolist())


def test_gathered_batches_equal_resident_ones(monkeypatch):
    resident = make_feed()
    monkeypatch.setattr(feed_module, "free_memory", lambda device: 0)
    gathered = make_feed()
    assert resident.resident is not None and gathered.resident is None
    for step in (0, 9):
        assert torch.equal(resident(step).images, gathered(step).images)


def test_processes_share_the_batch_of_one():
    whole, parts = make_feed()(3), [make_feed(rank=r, processes=2)(3) for r in (0, 1)]
    for name in ("images", "index", "rows", "patient"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(p, name) for p in parts])), name


def test_rates_warm_up_and_fall_to_nothing():
    rates = [rules.learning_rate_at(s, 100, 1.0) for s in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == rates[10] == 1.0 and rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rules.learning_rate_at(0, 1, 1.0) == 1.0


def test_auto_follows_hardware_and_pool(monkeypatch):
    assert rules.resolve_batch("auto", CPU, 5000, 2) == 128
    assert rules.resolve_batch("auto", CPU, 100, 2) == 64
    assert rules.resolve_batch("auto", torch.device("cuda"), 5000, 2) == 256
    for flags, precision in (({"avx512_bf16"}, "32"), ({"amx_bf16"}, "bf16")):
        monkeypatch.setattr(rules, "_cpu_flags", lambda flags=flags: flags)
        assert rules.resolve_precision("auto", CPU) == precision
    assert rules.resolve_learning_rate(None, 1e-3, 512) == pytest.approx(2e-3)


def test_optimizer_state_comes_back_in_the_layout_that_it_had(tmp_path):
    def make():
        torch.manual_seed(0)
        task = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        return task, torch.optim.AdamW(task.parameters())

    def step(task, optimizer):
        task(torch.ones(2, 4, 5, 5)).square().sum().backward()
        optimizer.step()

    one, other = make(), make()
    step(*one)
    save_state(tmp_path, one[0], [one[1]], {"step": 1})
    assert load_state(tmp_path, other[0], [other[1]]) == {"step": 1}
    for mine, theirs in zip(one[1].state.values(), other[1].state.values(), strict=True):
        assert mine["exp_avg"].stride() == theirs["exp_avg"].stride()
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"]) and torch.equal(mine["step"], theirs["step"])
    assert load_state(tmp_path / "nowhere", other[0], [other[1]]) is None


def test_history_drops_what_a_resumed_run_writes_again(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    history = History(path, 2)
    history.add({"step": 3, "loss": 1.0})
    history.close()
    assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.0}]
