"""The feed, the rules and the optimizer's state, each alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from medssl.errors import UserError
from medssl.training import feed as feed_module
from medssl.training import rules
from medssl.training.estimate import Estimate
from medssl.training.feed import Feed
from medssl.training.history import History, read_lines
from medssl.training.lars import LARS, WEIGHT_DECAY
from medssl.training.sampling import Sampling
from medssl.training.state import load_state, save_state, states

CPU = torch.device("cpu")


def make_images(n):
    return np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)


def make_feed(n=50, batch=8, keep=None, images=None, **options):
    images = make_images(n) if images is None else images
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


def test_workers_gather_from_disk_what_would_be_resident(monkeypatch, tmp_path):
    resident = make_feed(n=100)
    monkeypatch.setattr(feed_module, "free_memory", lambda device: 0)
    np.save(tmp_path / "images.npy", make_images(100))
    mapped = make_feed(n=100, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    assert "2 worker processes" in str(mapped) and "kept on the device" in str(resident)
    for step in (4, 5, 6, 7, 30, 31):  # from a resumed step on, over an epoch's end, and after a jump
        one, other = resident(step), mapped(step)
        for name in vars(one):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    mapped.close()


@pytest.mark.parametrize(("dtype", "full"), [("uint8", 255), ("int16", 32767), ("float16", 1), ("float32", 1)])
def test_samples_stay_in_their_dtype_and_become_floats_in_the_batch(dtype, full):
    images = (make_images(50) % 2).astype(dtype) * np.dtype(dtype).type(full)
    feed = make_feed(images=images)
    batch = feed(0)
    assert feed.resident.dtype == getattr(torch, dtype) and batch.images.dtype == torch.float32
    assert torch.equal(batch.images[:, 0, 0, 0], (batch.index % 2).float())


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_values_that_are_no_numbers_are_refused(monkeypatch, free):
    monkeypatch.setattr(feed_module, "free_memory", lambda device: free)
    images = make_images(50).astype(np.float16)
    images[:, 0, 1, 1] = np.nan
    with pytest.raises(UserError, match="no numbers"):
        make_feed(images=images, workers=0)(0)


def test_stacks_are_neighbouring_slices_of_one_scan_in_order():
    table = pd.DataFrame({"scan": ["a"] * 10 + ["b"] * 3 + ["c"] * 7})
    sampling = Sampling(table, np.arange(1, 20), "stack", 4, 3, 0)
    assert sampling.count == 2 + 1, "of 9, 3 and 7 slices"
    seen = set()
    for step in range(60):
        places = sampling(step) + 1  # `keep` starts at 1
        assert places.shape == (3, 4) and (places.diff(dim=1) == 1).all()
        assert all(len({table["scan"][int(i)] for i in row}) == 1 for row in places)
        seen.update(places[:, 0].tolist())
    assert seen == {1, 2, 3, 4, 5, 6, 13, 14, 15, 16}, "every place where a stack can begin"
    with pytest.raises(UserError, match="no scan has 11 slices"):
        Sampling(table, np.arange(20), "stack", 11, 1, 0)
    uneven = pd.DataFrame({"scan": ["a"] * 5 + ["b"] * 3, "exam": "e"})
    assert Sampling(uneven, np.arange(8), "stack", 4, 1, 0).note == (
        "left out: 1 of 2 scans, which have fewer than 4 slices"
    )
    assert not Sampling(uneven, np.arange(8), "stack", 3, 1, 0).note


def test_exams_give_different_images_of_one_exam():
    table = pd.DataFrame({"exam": ["a", "b", "a", "b", "a", "c", "b"]})
    sampling = Sampling(table, np.arange(7), "exam", 2, 2, 0)
    assert sampling.count == 2
    pairs = {tuple(row) for step in range(40) for row in sampling(step).tolist()}
    assert pairs == {(i, j) for e in ((0, 2, 4), (1, 3, 6)) for i in e for j in e if i != j}


@pytest.mark.parametrize("kind", ["stack", "exam"])
def test_groups_come_with_their_ids_and_positions(kind):
    n, keep = 24, np.arange(24)
    table = pd.DataFrame({"scan": keep // 6, "exam": keep // 12, "patient": keep // 12, "position_mm": 2.0 * keep})
    images = make_images(n)
    feed = Feed(images, table, keep, Sampling(table, keep, kind, 3, 4, 0), CPU)
    batch = feed(0)
    assert batch.images.shape == (4, 3, 1, 4, 4) and batch.scan.shape == batch.position.shape == (4, 3)
    assert torch.equal(batch.position, 2.0 * batch.index.float())
    assert torch.equal((batch.images[..., 0, 0, 0] * 255).round().long(), batch.index)
    assert batch.exam.shape == batch.patient.shape == batch.rows.shape == (4,)
    part = batch.part(slice(1, 3))
    assert torch.equal(part.images, batch.images[1:3]) and part.rows.tolist() == [1, 2]


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
    for flags, images, volumes in (("avx2", "32", "32"), ("avx512_bf16", "bf16", "32"), ("amx_bf16", "bf16", "bf16")):
        monkeypatch.setattr(rules, "_cpu_flags", lambda flags=flags: {"sse", flags})
        assert [rules.resolve_precision("auto", CPU, dims) for dims in (2, 3)] == [images, volumes]
    assert rules.resolve_learning_rate(None, 1e-3, 512) == pytest.approx(2e-3)


def test_auto_halves_the_batch_until_it_fits():
    assert rules.resolve_batch("auto", CPU, 5000, 2, fitting=lambda most: min(most, 32)) == 32
    assert rules.resolve_batch("auto", CPU, 5000, 4, 2, fitting=lambda most: min(most, 16)) == 32
    guess = Estimate(fixed=100, held=((0, 10),), seconds_per_image=0.1)
    assert guess.fitting(guess.spare * (100 + 640), 128, 2) == 64 and guess.fitting(0, 128, 2) == 2


def test_large_batches_take_lars():
    assert rules.resolve_optimizer("auto", 1024)[0] == "adamw"
    assert rules.resolve_optimizer("auto", 4096) == ("lars", LARS)
    assert rules.resolve_learning_rate(None, 1e-3, 4096, "lars") == pytest.approx(4.8)


def test_lars_equals_lightlys():
    from lightly.utils.lars import LARS as Reference

    def train(kind):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2, bias=False))
        matrices = [p for p in net.parameters() if p.ndim > 1]
        others = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        optimizer = kind(groups, lr=2.0, momentum=0.9)
        for step in range(5):
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            loss = net(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.allclose(train(LARS), train(Reference), atol=1e-6)


def test_two_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    task = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(task.parameters())
    for step in (1, 2, 3):
        save_state(tmp_path, task, [optimizer], {"step": step})
    assert [p.name for p in states(tmp_path)] == ["000000003.safetensors", "000000002.safetensors"]
    states(tmp_path)[0].write_bytes(b"half a file")
    assert load_state(tmp_path, task, [optimizer]) == {"step": 2} and "damaged" in capsys.readouterr().err


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


def test_a_history_that_cannot_be_written_anew_stays_as_it_was(tmp_path):
    import resource

    path, before = tmp_path / "history.jsonl", '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    path.write_text(before)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))  # no file may grow beyond four bytes
    try:
        with pytest.raises(OSError, match="too large"):
            History(path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == before


def test_history_drops_what_a_resumed_run_writes_again(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    history = History(path, 2)
    history.add({"step": 3, "loss": 1.0})
    history.close()
    assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.0}]
