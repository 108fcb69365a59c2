"""What may go wrong at night: memory, disk, adversaries, several players, further loggers."""

import copy
import errno
import json

import numpy as np
import pytest
import torch
from test_pretrain import equal, run, samples, weights

from medssl.augment import RowGenerator
from medssl.errors import MedsslError, UserError
from medssl.pretext.relative_patch import RelativePatch
from medssl.pretext.rotation import Rotation
from medssl.training import feed as feed_module
from medssl.training import fit
from medssl.training import loop as loop_module
from medssl.training import plan as plan_module
from medssl.training.estimate import Estimate, Held, is_out_of_memory, out_of_memory
from medssl.training.plan import Request
from medssl.training.run import make_fabric
from medssl.training.sampling import people
from medssl.training.state import states


def request_of(data=None, task="simclr", **engine):
    return Request(data or samples(), task, {}, frozenset(), "", engine, make_fabric)


def an_image(guess):
    """Bytes that one more image takes."""
    return (guess.memory(129) - guess.memory(128)) / guess.spare


def test_a_plan_says_memory_and_time_and_trains_nothing():
    request = request_of(batch=16, steps=50)
    before = {k: v.clone() for k, v in request.task.state_dict().items()}
    plan = request.plan(request.length())
    assert plan.steps == 50 and plan.batch == 16 and plan.memory > 1 << 20 and plan.seconds > 0
    assert "50 steps of 16 images" in str(plan) and "memory" in str(plan) and "kept on the device" in str(plan)
    assert all(torch.equal(v, before[k]) for k, v in request.task.state_dict().items()), "a trial leaves no trace"
    assert json.loads(json.dumps(plan.as_json()))["accumulate"] == 1


def test_memory_grows_with_the_batch_and_what_an_image_needs_is_right():
    one, other = (request_of(samples(size=s), batch=16).guess for s in (64, 128))
    assert 3 < an_image(other) / an_image(one) < 5 and one.fixed == other.fixed - (128**2 - 64**2) * 48
    # bytes between two sizes of a batch are counted anew, by hand
    task, kept = request_of().fresh_task().train(), {}
    batch = loop_module.Feed(
        samples().images, samples().table, np.arange(48), request_of().sampling(32), torch.device("cpu"), workers=0
    )(0)

    def note(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), torch.autocast("cpu", torch.bfloat16):
        loss, _ = task(batch, RowGenerator(0, 0, batch.rows))
    del loss
    assert 0.3 < 32 * an_image(request_of(precision="bf16").guess) / sum(kept.values()) < 3


def test_a_task_on_tiles_also_needs_the_memory_of_whole_images(monkeypatch):
    """Its last pass settles batch norms on whole images, larger than its tiles."""
    large = samples(size=128)
    settled = request_of(large, "relative_patch").guess
    monkeypatch.setattr(RelativePatch, "sees_wholes", True)
    assert an_image(settled) > 1.2 * an_image(request_of(large, "relative_patch").guess)


@pytest.mark.parametrize("name", ["barlow_twins", "inpainting", "relative_patch", "byol"])
def test_what_a_large_batch_holds_is_told_from_two_small_ones(name, monkeypatch):
    """Of a few small images the gradients take most, and of 48 the maps: a slope between two maxima would not do."""
    monkeypatch.setattr(RelativePatch, "sees_wholes", True)
    request = request_of(samples(size=48), name, batch=48, precision="32")
    task, guess = request.fresh_task().train(), request.guess
    task.to(memory_format=torch.channels_last)
    data, place = request.samples, torch.device("cpu")
    batch = loop_module.Feed(data.images, data.table, request.keep, request.sampling(48), place, workers=0)(0)
    with Held(vars(batch).values(), [*task.parameters(), *task.buffers()]) as held:
        task(batch, RowGenerator(0, 0, batch.rows))[0].backward()
    expected = guess.memory(48) / guess.spare - guess.fixed
    assert expected == pytest.approx(max(held.after), rel=0.03)


def test_out_of_memory_says_what_to_lower_and_by_how_much(tmp_path, monkeypatch):
    guess = Estimate(fixed=2**30, held=((0, 2**26),), seconds_per_image=1)
    task = request_of(encoder="small_gn").task
    error = out_of_memory(guess, task, batch=128, parts=1, free=8 * 2**30)
    assert "batch=64" in str(error) and "accumulate=2" in str(error) and "GiB" in str(error)
    error = out_of_memory(guess, request_of(encoder="small").task, batch=128, parts=1, free=8 * 2**30)
    assert "batch=64" in str(error) and "accumulate" not in str(error), "batch normalisation cannot take parts"
    error = out_of_memory(guess, task, batch=2, parts=1, free=2**29)
    assert "set batch" not in str(error) and "fewer pixels" in str(error)
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))

    def full(self, step):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop_module.Loop, "step", full)
    with pytest.raises(MedsslError, match="out of memory: 16 images"):
        run(tmp_path)


def test_a_full_disk_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    save, calls = loop_module.save_state, []

    def fails_once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(loop_module, "save_state", fails_once)
    result = run(tmp_path / "a", checkpoint_every=2)
    assert result.steps == 8 and len(calls) == 3 and "disk is full" in capsys.readouterr().err
    assert equal(weights(result), weights(run(tmp_path / "b")))


def test_a_full_disk_when_the_run_must_stop_keeps_the_state_before(tmp_path, monkeypatch):
    import os
    import signal

    step, save = loop_module.Loop.step, loop_module.save_state

    def stop_at_5(self, number):
        if number == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    def full_at_6(folder, task, optimizers, counters):
        if counters["step"] == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(folder, task, optimizers, counters)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Loop, "step", stop_at_5)
        patch.setattr(loop_module, "save_state", full_at_6)
        with pytest.raises(MedsslError, match="make room"):
            run(tmp_path / "a", checkpoint_every=4)
    assert [p.name for p in states(tmp_path / "a" / "state")] == ["000000004.safetensors"]
    again = run(tmp_path / "a", checkpoint_every=4)
    assert again.resumed_from == 4 and equal(weights(again), weights(run(tmp_path / "b")))


class Adversary(Rotation):
    """Two players with rates of their own; the second guesses the turn from what the first gives away."""

    name = "adversary"
    rates: list = []  # noqa: RUF012

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.second = torch.nn.Linear(self.encoder.embed_dim, 4)

    def optimizers(self, learning_rate, make=torch.optim.AdamW):
        first = [*self.encoder.parameters(), *self.head.parameters()]
        return [make(first, lr=learning_rate), torch.optim.SGD(self.second.parameters(), lr=7 * learning_rate)]

    def loss(self, batch, generator):
        loss, metrics = super().loss(batch, generator)
        guess = self.second(self.last_embedding)
        return loss + guess.square().mean(), metrics

    def after_step(self, step, steps):
        self.rates.append([o.param_groups[0]["lr"] for o in self._optimizers()])

    def _optimizers(self):
        return self.watched


def test_two_players_keep_their_rates_and_resume_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "task_class", lambda name: Adversary)
    make = loop_module.Loop.__init__

    def remember(self, *arguments):
        make(self, *arguments)
        self.task.watched = self.optimizers

    monkeypatch.setattr(loop_module.Loop, "__init__", remember)
    whole = run(tmp_path / "a", task="adversary", steps=6)
    assert all(second == pytest.approx(7 * first) for first, second in Adversary.rates)
    step = loop_module.Loop.step
    with monkeypatch.context() as patch:
        patch.setattr(
            loop_module.Loop, "step", lambda s, n: step(s, n) if n < 5 else (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", task="adversary", steps=6, checkpoint_every=2)
    again = run(tmp_path / "b", task="adversary", steps=6, checkpoint_every=2)
    assert again.resumed_from == 4 and equal(weights(whole), weights(again))


def test_a_large_gradient_of_one_player_does_not_shrink_that_of_another(tmp_path, monkeypatch):
    class Loud(Adversary):
        loudness = 1.0

        def loss(self, batch, generator):
            loss, metrics = Rotation.loss(self, batch, generator)
            return loss + self.loudness * self.second(self.last_embedding.detach()).square().mean(), metrics

        def after_step(self, step, steps):
            pass

    monkeypatch.setattr(plan_module, "task_class", lambda name: Loud)
    quiet = weights(run(tmp_path / "a", task="adversary", steps=3))
    monkeypatch.setattr(Loud, "loudness", 1e6)
    loud = weights(run(tmp_path / "b", task="adversary", steps=3))
    assert not equal(quiet, loud)
    first = [key for key in quiet if "second" not in key]
    assert first and all(torch.equal(quiet[key], loud[key]) for key in first)


def test_tensorboard_gets_every_line_and_unknown_loggers_are_refused(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(tmp_path / "a", log="tensorboard", steps=4)
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    logged = [e.value for e in events.Scalars("loss")]
    assert logged == pytest.approx(result.history["loss"].tolist(), rel=1e-5)
    with pytest.raises(UserError, match="tensorboard"):
        run(tmp_path / "b", log="tensorbord")
    assert not (tmp_path / "b").exists()


def test_the_history_says_where_the_time_goes(tmp_path):
    history = run(tmp_path, steps=10).history
    shares = history[["share_feed", "share_views", "share_compute"]]
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3) and (shares > 0).all().all()
    assert history["rankme"].notna().tolist() == [False] * 9 + [True]


def test_nothing_usable_and_no_numbers_are_refused(tmp_path):
    data = samples()
    data.images = (data.images / 255).astype(np.float16)
    data.images[3] = np.nan
    with pytest.raises(UserError, match="no numbers"):
        fit(data, "simclr", out=tmp_path / "a", batch=16, steps=2)
    with pytest.raises(UserError, match="holds 'small' in 2-D"):
        first = run(tmp_path / "b", steps=1)
        run(tmp_path / "c", dims=3, weights=str(first.checkpoint))
    assert not (tmp_path / "c" / "run.json").exists()


def test_a_stronger_optimizer_and_parts_belong_to_the_run(tmp_path):
    run(tmp_path, steps=2, encoder="small_gn", optimizer="lars", accumulate=2)
    held = json.loads((tmp_path / "run.json").read_text())["identity"]
    assert held["optimizer"] == "lars" and held["accumulate"] == 2
    assert held["learning_rate"] == pytest.approx(0.3 * 16 / 256)
    with pytest.raises(UserError, match="differs in accumulate"):
        run(tmp_path, steps=2, encoder="small_gn", optimizer="lars")


class Grouped(Rotation):
    """Rotation of each of K images that come together, as a task with stacks or exams would unpack them."""

    name = "grouped"

    @classmethod
    def group_size(cls, settings):
        return 3

    def loss(self, batch, generator):
        assert batch.images.ndim == 5 and batch.position.shape == batch.images.shape[:2]
        middle = copy.copy(batch)
        middle.images = batch.images[:, 1]
        return super().loss(middle, generator)


@pytest.mark.parametrize("kind", ["stack", "exam"])
def test_a_task_of_stacks_or_exams_trains_and_resumes(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(plan_module, "task_class", lambda name: Grouped)
    monkeypatch.setattr(Grouped, "sampling", kind)
    data = samples(n=60)
    data.table["scan"] = data.table["exam"] = [f"s{i // 6}" for i in range(60)]
    data.table["position_mm"] = np.arange(60) % 6 * 2.0
    result = fit(data, "grouped", out=tmp_path, batch=8, steps=3)
    assert result.steps == 3 and np.isfinite(result.history["loss"]).all()
    with pytest.raises(UserError, match="there are 20 to train on"):
        fit(data, "grouped", out=tmp_path / "b", batch=32, steps=3)


def test_samples_that_do_not_fit_train_to_the_same_weights(tmp_path, monkeypatch, capsys):
    resident = run(tmp_path / "a", steps=5)
    monkeypatch.setattr(feed_module, "free_memory", lambda device: 0)
    gathered = run(tmp_path / "b", steps=5)
    assert "gathered from disk by 2 worker processes" in capsys.readouterr().err
    assert equal(weights(resident), weights(gathered))


@pytest.mark.parametrize(("encoder", "idle"), [("tf_efficientnet_lite0", True), ("resnet10t", False)])
def test_a_task_that_would_leave_part_of_the_encoder_untrained_is_refused(tmp_path, encoder, idle):
    """EfficientNet's vector passes through a convolution that its feature maps do not."""
    data = samples(size=32)
    if idle:
        with pytest.raises(UserError, match=r"leave 1\d% of the weights of 'tf_efficientnet_lite0' untrained"):
            run(tmp_path, "autoencoder", 2, data, encoder=encoder)
        assert not (tmp_path / "checkpoint.safetensors").exists()
        return
    assert run(tmp_path, "autoencoder", 2, data, encoder=encoder).steps == 2


def test_scans_that_give_a_task_nothing_to_learn_are_refused(tmp_path):
    """No patch can be followed through slices of noise."""
    data = samples(n=64, size=64)
    data.table["scan"] = [f"s{i // 8}" for i in range(64)]
    with pytest.raises(UserError, match="'tracked_patch' finds nothing to learn here"):
        fit(data, "tracked_patch", out=tmp_path, steps=2, batch=8)


def test_patients_whom_a_group_ties_are_one_to_a_task():
    data = samples()
    data.table["group"] = [f"p{i // 2}" for i in range(48)]
    assert len(set(people(data.table))) == 24
    data.table.loc[[0, 9], "group"] = "twins"  # p0 and p4
    request = request_of(data)
    batch = loop_module.Feed(
        data.images, data.table, request.keep, request.sampling(48), torch.device("cpu"), workers=0
    )(0)
    found = dict(zip(batch.index.tolist(), batch.patient.tolist(), strict=True))
    assert len({found[i] for i in (0, 1, 8, 9)}) == 1 and len(set(found.values())) == 23
    alone = samples()
    assert len(set(people(alone.table))) == 24


def test_a_task_meets_those_alone_whom_it_draws():
    """Images of one exam come from one patient, who is then all that there is."""
    data = samples()
    data.table.loc[:3, "patient"] = "p0"
    data.table.loc[:3, "exam"] = ["one", "one", "other", "other"]
    with pytest.raises(UserError, match="one patient"):
        request_of(data, "micle", batch=2).fresh_task()
    data.table.loc[2:3, "patient"] = "p1"
    request_of(data, "micle", batch=2).fresh_task()


@pytest.mark.parametrize("draws", [0, 3])
def test_numbers_that_a_feed_takes_are_not_missed_by_layers(draws):
    """Worker processes that are started in the first step of a process take some; a resumed run starts them again."""
    loop = request_of(task="rotation", batch=16).loop(4)
    feed, drop = loop.feed, torch.nn.Dropout(0.5)
    batch = feed(0)
    loop.feed = lambda step: (torch.rand(draws), batch)[1]
    seen = []
    layer = next(module for module in loop.task.encoder.modules() if isinstance(module, torch.nn.Conv2d))
    layer.register_forward_pre_hook(lambda module, x: seen.append(drop(torch.ones(32))))
    torch.manual_seed(draws)
    loop.step(2)
    torch.manual_seed(hash((loop.recipe.seed, 2, 0)) & 0x7FFFFFFF)
    assert torch.equal(seen[0], drop(torch.ones(32)))
