"""Contrast: losses against slow loops and lightly's, memories of negatives, and who is nobody's negative."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_tasks import PLAIN, batch_of, faces, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.errors import UserError
from medssl.pretext.infomax import jensen_shannon
from medssl.pretext.negatives import Memory, NegativeSettings, info_nce
from medssl.pretext.pirl import TRANSFORMS
from medssl.pretext.simclr import nt_xent
from medssl.pretext.voco import crop, overlap

PATIENT = torch.tensor([0, 0, 1, 2, 2])


def rows(count, step=0):
    return RowGenerator(0, step, torch.arange(count))


def with_patients(images, patient):
    batch = batch_of(images)
    batch.patient = patient
    return batch


def met(name, settings=None, pool=64, patients=32, **options):
    task = make(name, settings, **options)
    task.meet(torch.arange(pool), torch.arange(pool) % patients)
    return task


def random_vectors(seed=0):
    g = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(5, 4, generator=g), torch.randn(5, 4, generator=g)
    return queries, keys, F.normalize(torch.randn(6, 4, generator=g), dim=1)


def slow_info_nce(queries, keys, others, allowed, temperature, apart):
    total = 0.0
    for i, q in enumerate(queries):
        said = lambda k, q=q: math.exp(float(q @ k / q.norm() / k.norm()) / temperature)  # noqa: E731
        own = said(keys[i])
        rest = sum(said(keys[j]) for j in range(len(keys)) if j != i and apart[i][j])
        rest += sum(said(others[k]) for k in range(len(others)) if allowed[i][k])
        total -= math.log(own / (own + rest))
    return total / len(queries)


def test_info_nce_equals_a_loop_over_whom_it_may_compare():
    queries, keys, others = random_vectors()
    allowed = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    apart = PATIENT[:, None] != PATIENT
    ours = float(info_nce(queries, keys, others, allowed, 0.2, apart))
    assert ours == pytest.approx(slow_info_nce(queries, keys, others, allowed, 0.2, apart), abs=1e-5)
    every = torch.ones(5, 5, dtype=torch.bool)
    ours = float(info_nce(queries, keys, others, allowed, 0.2))
    assert ours == pytest.approx(slow_info_nce(queries, keys, others, allowed, 0.2, every), abs=1e-5)


def test_info_nce_with_the_queue_alone_is_lightlys_loss_with_a_memory_bank():
    from lightly.loss import NTXentLoss

    queries, keys, others = random_vectors()
    theirs = NTXentLoss(0.2, memory_bank_size=(6, 4))
    theirs.memory_bank.bank = others.clone()
    nobody, everyone = torch.zeros(5, 5, dtype=torch.bool), torch.ones(5, 6, dtype=torch.bool)
    ours = float(info_nce(queries, keys, others, everyone, 0.2, nobody))
    assert ours == pytest.approx(float(theirs(queries, keys)), abs=1e-5)


def test_without_any_negative_the_loss_is_nothing_and_a_number():
    queries, keys, _ = random_vectors()
    queries.requires_grad_()
    nobody, none = torch.zeros(5, 5, dtype=torch.bool), torch.zeros(5, 0, dtype=torch.bool)
    for loss in (info_nce(queries, keys, keys[:0], none, 0.2, nobody), nt_xent(queries, keys, 0.2, nobody)[0]):
        loss.backward()
        assert float(loss) == pytest.approx(0, abs=1e-6) and torch.isfinite(queries.grad).all()
    loss, _ = jensen_shannon(keys, torch.randn(5, 4, 3), nobody)
    assert math.isfinite(float(loss))


@pytest.mark.parametrize("name", ["simclr", "moco", "pirl", "infomax", "cpc", "exemplar"])
def test_images_of_one_patient_are_no_negatives_unless_asked_for(name):
    """One patient's images give the loss of no negatives (of other images); with `all` they give more."""
    images, losses = faces(6, seed=2), {}
    for kind, patient in (("other_patients", 0), ("other_patients", torch.arange(6)), ("all", 0)):
        task = make(name, PLAIN | {"negatives": kind})
        batch = with_patients(images, torch.zeros(6, dtype=torch.int64) + patient)
        losses[kind, torch.is_tensor(patient)] = float(task(batch, rows(6))[0])
    assert losses["other_patients", False] < losses["other_patients", True] - 0.1
    assert losses["all", False] == losses["other_patients", True], "the default changes nothing where patients differ"


def test_a_pool_of_one_patient_is_refused_before_the_first_step():
    for name in ("simclr", "moco", "pirl", "infomax", "exemplar"):
        with pytest.raises(UserError, match="one patient") as error:
            met(name, patients=1)
        assert "negatives=all" in str(error.value)
        met(name, {"negatives": "all"}, patients=1)
    met("cpc", patients=1)  # has the other patches of the image


def test_the_queue_is_a_ring_of_the_newest_and_knows_whose_they_are():
    memory, images = Memory(5, 2), faces(8)
    stream = torch.randn(16, 2)
    for first in (0, 8):
        batch = with_patients(images, torch.arange(first, first + 8) // 2)
        batch.index = torch.arange(first, first + 8)
        memory.push(stream[first : first + 8][:3], batch.part(slice(0, 3)))
    assert memory.index.tolist() == [10, 1, 2, 8, 9]
    order = memory.index.argsort()
    assert torch.allclose(memory.vectors[order], F.normalize(stream[[1, 2, 8, 9, 10]], dim=1))
    assert memory.patient[order].tolist() == [0, 1, 4, 4, 5]
    batch = with_patients(images[:2], torch.tensor([0, 4]))
    batch.index = torch.tensor([1, 30])
    others = memory.negatives(NegativeSettings(), batch)[:, order]
    every = memory.negatives(NegativeSettings(negatives="all"), batch)[:, order]
    assert others.tolist() == [[False, True, True, True, True], [True, True, False, False, True]]
    assert every.tolist() == [[False, True, True, True, True], [True] * 5]
    whole = Memory(5, 2)
    whole.push(stream[:8], with_patients(images, torch.arange(8)))
    assert sorted(whole.index.tolist()) == [3, 4, 5, 6, 7], "of a batch that is larger, the last ones"
    assert not Memory(3, 2).negatives(NegativeSettings(), batch).any(), "what was never written is nobody's negative"


def test_moco_fills_its_queue_while_training_and_says_how_long_it_is():
    task = met("moco", pool=40)
    assert len(task.queue) == 20 and "20 keys, of 40 images" in task.note
    batch = batch_of(faces(8))
    task(batch, rows(8))
    assert sorted(task.queue.index.tolist()) == [-1] * 12 + list(range(8))
    task.eval()
    task(batch, rows(8, 1))
    assert int(task.queue.written) == 8
    assert "queue.vectors" in task.state_dict() and "queue" not in task.heads()
    assert met("moco", {"form": "v3"}).queue is None


def test_a_queue_that_is_no_smaller_than_the_pool_is_refused():
    for queue in (40, 41):
        with pytest.raises(UserError, match="40 images") as error:
            met("moco", {"queue": queue}, pool=40)
        assert "queue=20" in str(error.value)
    assert len(met("moco", {"queue": 39}, pool=40).queue) == 39
    with pytest.raises(UserError, match="v3"):
        met("moco", {"queue": 10, "form": "v3"})


def test_with_group_norm_a_batch_leaves_no_mark_on_its_keys():
    for encoder, marked in (("small_gn", False), ("small", True)):
        task, x = met("moco", encoder=encoder).train(), faces(8)
        key = lambda x, task=task: task.slow_projection(task.slow_encoder.module.embed(x))  # noqa: E731
        assert torch.allclose(key(x)[:2], key(x[:2]), atol=1e-4) is not marked


@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_pirl_is_its_equations(transform):
    """Two steps: what the bank holds, and the loss of the second against a loop."""
    task = met("pirl", PLAIN | {"transform": transform}, pool=12)
    first, second = faces(8, seed=1), faces(8, seed=2)
    batch = with_patients(first, torch.arange(8) // 2)
    task(batch, rows(8))
    before = task.bank.vectors.clone()
    assert task.bank.index.tolist() == [*range(8), -1, -1, -1, -1]
    seen = {}
    for n in ("projection", "join"):
        getattr(task, n).register_forward_hook(lambda module, x, y, n=n: seen.update({n: y.detach()}))
    batch = with_patients(second, torch.arange(4, 12) // 2)
    batch.index = torch.arange(4, 12)
    loss, _ = task(batch, rows(8, 1))
    whole = F.normalize(seen["projection"], dim=1)
    own = torch.cat([before[4:8], whole[4:]])
    patient = torch.arange(12) // 2
    allowed = patient[4:, None] != patient[:4]
    apart = patient[4:, None] != patient[4:]
    terms = [slow_info_nce(seen[n], own, before[:4], allowed, 0.1, apart) for n in ("join", "projection")]
    assert float(loss) == pytest.approx(sum(terms) / 2, rel=1e-4)
    after = F.normalize(0.5 * own + 0.5 * whole, dim=1)
    assert torch.allclose(task.bank.vectors, torch.cat([before[:4], after]), atol=1e-5)
    assert "bank.vectors" in task.state_dict() and "bank" not in task.heads() and "12 images" in task.note


def test_a_large_bank_is_scored_in_part(monkeypatch):
    monkeypatch.setattr("medssl.pretext.pirl.SCORED_AT_MOST", 16)
    task = met("pirl", pool=64)
    for step in range(3):
        loss, _ = task(batch_of(faces(8)), rows(8, step))
        assert math.isfinite(float(loss))
    assert len(task._others(batch_of(faces(8)), rows(8))[0]) == 16


def test_transforms_of_pirl():
    images = faces(4, 36)
    tiles = TRANSFORMS["jigsaw"](images, rows(4))
    assert tiles.shape == (4, 9, 1, 10, 10) and torch.allclose(tiles.mean((3, 4)), torch.tensor(0.5), atol=1e-4)
    assert TRANSFORMS["jigsaw"](torch.rand(2, 1, 32, 32, 32), rows(2)).shape == (2, 8, 1, 13, 13, 13)
    turned = TRANSFORMS["rotation"](images, rows(4))
    for t, x in zip(turned, images, strict=True):
        assert any(torch.equal(t[0], torch.rot90(x, k, (1, 2))) for k in range(4))
    assert (TRANSFORMS["holes"](images, rows(4)) == 0.5).float().mean() > 0.4
    with pytest.raises(UserError, match="jigsaw"):
        make("pirl", {"transform": "jigsau"})


def test_overlaps_are_those_of_counted_pixels():
    g = torch.Generator().manual_seed(0)
    for dims, grid, size in ((2, 3, 5), (3, 2, 4)):
        corners = torch.cartesian_prod(*[torch.arange(grid) * size] * dims).expand(2, -1, -1)
        places = torch.randint(0, size * (grid - 1) + 1, (2, 6, dims), generator=g)
        shares = overlap(places, corners, size)
        assert torch.allclose(shares.sum(2), torch.ones(2, 6)), "a crop lies in the grid as a whole"
        cell = torch.zeros([grid * size] * dims, dtype=torch.int64)
        for number, corner in enumerate(corners[0].tolist()):
            cell[tuple(slice(c, c + size) for c in corner)] = number
        cut = crop(cell.float().expand(2, 1, *cell.shape), places, size).flatten(2)
        for number in range(grid**dims):
            assert torch.allclose((cut == number).float().mean(2), shares[:, :, number])


def test_voco_rewards_the_right_shares_and_bases_that_are_apart():
    task = make("voco")
    batch = batch_of(faces(4))
    _, shares = task.puzzle(batch, rows(4))
    bases = torch.eye(4).expand(4, -1, -1)  # orthogonal; a crop's vector that has its shares as cosines:
    crops = torch.cat([shares, (1 - shares.square().sum(2, keepdim=True)).clamp_min(0).sqrt()], 2)
    perfect = torch.cat([torch.cat([bases, torch.zeros(4, 4, 1)], 2), crops], 1)
    task.projection = torch.nn.Identity()
    task.embed = lambda x: perfect.flatten(0, 1)
    loss, metrics = task(batch, rows(4))
    assert float(loss) == pytest.approx(0, abs=1e-3) and float(metrics["accuracy"]) == 1
    assert float(metrics["overlap_error"]) < 1e-3
    task.embed = lambda x: torch.ones(32, 5)
    loss, metrics = task(batch, rows(4))
    assert float(loss) > task.floor(batch, rows(4))["loss"] + 1


@pytest.mark.parametrize("name", ["moco", "pirl", "voco"])
def test_they_learn(name):
    images, steps = faces(32), 30
    task = met(name, PLAIN, pool=32)
    floor = task.floor(batch_of(images), rows(32, 9999))
    before, optimizer, found = torch.get_rng_state(), task.optimizers(3e-3)[0], []
    for step in range(steps):
        loss, _ = task(batch_of(images), rows(32, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step(step, steps)
        found.append(float(loss.detach()))
    assert sum(found[-5:]) / 5 < 0.95 * floor["loss"]
    assert torch.equal(torch.get_rng_state(), before), "all draws come from the row generator"


def test_volumes_are_turned_and_cut_too():
    for name in ("moco", "pirl", "voco"):
        task = met(name, view=View(size=32, spatial_dims=3), dims=3)
        loss, _ = task(batch_of(torch.rand(4, 1, 32, 32, 32)), rows(4))
        loss.backward()
        assert all(p.grad is not None for p in task.parameters() if p.requires_grad), name


def _one_process(rank, folder, name):
    import torch.distributed as distributed

    from medssl.training.norms import share_norms

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    task = share_norms(_task(name), torch.device("cpu"))
    torch.save(_two_steps(task, slice(4 * rank, 4 * rank + 4)), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def _task(name):
    return met(name, PLAIN, pool=16, patients=8, encoder="small_gn")


def _two_steps(task, own):
    losses = []
    for step in range(2):
        # three images of one patient lie in both processes, which then have unequal numbers of negatives
        batch = with_patients(faces(8, seed=step), torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])).part(own)
        loss, _ = task(batch, RowGenerator(0, step, batch.rows))
        losses.append(loss)
    losses[1].backward()
    gradient = torch.cat([p.grad.flatten() for p in task.parameters() if p.requires_grad])
    memory = {k: v for k, v in task.state_dict().items() if k.startswith(("queue", "bank"))}
    return [float(x) for x in losses], gradient, memory


@pytest.mark.parametrize("name", ["moco", "pirl", "infomax", "cpc"])
def test_two_processes_have_the_negatives_and_memories_of_one(tmp_path, name):
    torch.multiprocessing.spawn(_one_process, (str(tmp_path), name), nprocs=2)
    found = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    losses, gradient, memory = _two_steps(_task(name), slice(0, 8))
    for step in range(2):
        assert sum(f[0][step] for f in found) / 2 == pytest.approx(losses[step], rel=1e-5)
    assert torch.allclose((found[0][1] + found[1][1]) / 2, gradient, atol=1e-4 * float(gradient.abs().max()))
    for f in found:
        assert all(torch.allclose(f[2][key].float(), value.float(), atol=1e-5) for key, value in memory.items())
    assert memory or name in ("infomax", "cpc")


@pytest.mark.parametrize(("name", "panels"), [("moco", 4), ("pirl", 3), ("voco", 5), ("mae", 3), ("simmim", 3)])
@pytest.mark.parametrize("dims", [2, 3])
def test_they_show_what_is_seen_and_answered(name, panels, dims):
    task = met(name, view=View(size=32, spatial_dims=dims), dims=dims).eval()
    images = faces(3) if dims == 2 else torch.rand(3, 1, 32, 32, 32)
    with torch.no_grad():
        shown = task.show(batch_of(images), rows(3))
    assert len(shown) == 3
    for picture in shown:
        assert len(picture.panels) == len(picture.captions) == panels
        assert all(x.ndim == 3 and 0 <= float(x.min()) <= float(x.max()) <= 1 for x in picture.panels)
