"""Tracked patches: the track is the best match, the loss is the paper's, and scans do not betray themselves."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_slice_propagation import growing, rows, stacks
from test_tasks import make

from medssl.config import View
from medssl.errors import UserError
from medssl.pretext.tracked_patch import Settings, correlation, ranked, track, windows

STILL = {"views": {"crop": [1, 1], "rotation": 0, "brightness": 0, "contrast": 0, "gamma": 0, "blur": 0, "noise": 0}}


def test_tracks_equal_a_search_over_all_windows():
    g = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 2, 14, 14, generator=g)
    start = torch.tensor([[0, 0], [9, 9], [4, 5], [0, 9], [8, 3]])
    places, least = track(images, start, 5, 2)
    for n in range(5):
        place, worst = start[n].tolist(), 1.0
        for k in (1, 2):
            y, x = place
            pattern, best = images[n, k - 1, :, y : y + 5, x : x + 5].flatten(), (-2.0, (y, x))
            for v in range(max(0, y - 2), min(9, y + 2) + 1):
                for u in range(max(0, x - 2), min(9, x + 2) + 1):
                    here = images[n, k, :, v : v + 5, u : u + 5].flatten()
                    best = max(best, (float(torch.corrcoef(torch.stack([pattern, here]))[0, 1]), (v, u)))
            place, worst = list(best[1]), min(worst, best[0])
            assert places[n, k].tolist() == place
        assert float(least[n]) == pytest.approx(worst, abs=1e-4)


def test_a_patch_that_moves_is_followed_and_a_blank_one_is_lost():
    pattern = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    images = torch.stack([pattern[0, :, 6 - 2 * k : 36 - 2 * k, 4 + k : 34 + k] for k in range(4)])[None]
    places, least = track(images, torch.tensor([[10, 12]]), 9, 2)
    assert places[0].tolist() == [[10 + 2 * k, 12 - k] for k in range(4)] and float(least[0]) > 0.999
    places, least = track(torch.zeros(1, 4, 1, 30, 30), torch.tensor([[10, 12]]), 9, 2)
    assert places[0].tolist() == [[10, 12]] * 4 and float(least[0]) == 0


def test_windows_are_slices():
    images = torch.rand(3, 2, 9, 8)
    corner = torch.tensor([[0, 0], [4, 3], [2, 1]])
    for row, (y, x) in enumerate(corner.tolist()):
        assert torch.equal(windows(images, corner, 5)[row], images[row, :, y : y + 5, x : x + 5])


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_the_loss_equals_a_loop_over_triplets(within, hard):
    g = torch.Generator().manual_seed(0)
    parts = [F.normalize(torch.randn(7, 5, generator=g), dim=1) for _ in range(3 if within else 2)]
    patient = torch.tensor([0, 0, 1, 2, 3, 3, 4])
    followed = torch.tensor([1, 1, 1, 0, 1, 1, 1]).bool()
    s = Settings(within=within, negatives=2)
    loss, metrics = ranked(parts, patient, followed, torch.tensor(hard), s, rows(7))
    drawn, total, right = rows(7).uniform(7), 0.0, []
    for i in range(7):
        if not followed[i]:
            continue
        distance = lambda z, i=i: 1 - float(parts[0][i] @ z)  # noqa: E731
        others = [j for j in range(7) if patient[j] != patient[i] and followed[j]]
        ranking = sorted(others, key=lambda j, i=i, d=distance: d(parts[1][j]) if hard else float(drawn[i, j]))
        negatives = [distance(parts[1][j]) for j in ranking[:2]] + ([distance(parts[2][i])] if within else [])
        own = distance(parts[1][i])
        total += sum(max(0.0, own - n + 0.5) for n in negatives) / len(negatives)
        all_of_them = [distance(parts[1][j]) for j in others] + ([distance(parts[2][i])] if within else [])
        right.append(own < min(all_of_them))
    assert float(loss) == pytest.approx(total / 7, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(sum(right) / 6)
    assert float(metrics["followed"]) == pytest.approx(6 / 7)


def whole():
    """Begin, end and elsewhere of six stacks, whose patients they are, and which tracks were not lost."""
    g = torch.Generator().manual_seed(3)
    parts = [torch.randn(6, 4, generator=g) for _ in range(3)]
    return parts, torch.tensor([0, 1, 0, 2, 1, 3]), torch.tensor([1, 1, 0, 1, 1, 1]).bool()


def loss_of(parts, patient, followed, generator):
    leaves = [x.clone().requires_grad_() for x in parts]
    units = [F.normalize(x, dim=1) for x in leaves]
    loss, metrics = ranked(units, patient, followed, torch.tensor(True), Settings(negatives=2), generator)
    loss.backward()
    return loss.detach(), metrics["accuracy"], torch.stack([x.grad for x in leaves])


def _one_process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    own = slice(3 * rank, 3 * rank + 3)
    parts, patient, followed = whole()
    torch.save(loss_of([x[own] for x in parts], patient[own], followed[own], rows(6).part(own)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    """Negatives are those of both, of other patients, and no lost ones."""
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    loss, _, gradient = loss_of(*whole(), rows(6))
    assert sum(float(f[0]) for f in found) / 2 == pytest.approx(float(loss), abs=1e-6)
    assert torch.allclose(torch.cat([f[2] for f in found], 1) / 2, gradient, atol=1e-6)


def test_a_batch_of_one_patient_has_no_negatives_but_its_own_slice():
    parts = [F.normalize(torch.randn(4, 5), dim=1).requires_grad_() for _ in range(2)]
    everyone = torch.ones(4).bool()
    one, s = torch.zeros(4, dtype=torch.int64), Settings(within=False)
    loss, _ = ranked(parts, one, everyone, torch.tensor(True), s, rows(4))
    assert float(loss.detach()) == 0
    loss.backward()
    assert torch.isfinite(parts[0].grad).all()


def test_elsewhere_is_elsewhere_and_patches_show_something():
    batch = stacks(growing(64, 48, 4))
    task = make("tracked_patch", STILL, View(size=48))
    patches, followed = task.puzzle(batch, rows(64))
    assert patches.shape == (64, 3, 1, 19, 19) and followed.float().mean() > 0.5
    end, elsewhere = patches[:, 1].flatten(1), patches[:, 2].flatten(1)
    assert not (end == elsewhere).all(1).any()
    assert (patches[:, 0].flatten(1).std(1) > 0.02).all()


def test_a_scans_brightness_would_find_the_pair():
    """Opened, a network that only measures brightness, which each scan has its own of, is always right."""
    levels = torch.linspace(0.2, 0.8, 32).view(32, 1, 1, 1, 1)
    noise = 0.02 * torch.rand(32, 4, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    batch = stacks((levels + noise[:, :1]).expand(-1, 4, -1, -1, -1))  # nothing moves, all can be followed
    right = {}
    for within in (False, True):
        task = make("tracked_patch", STILL | {"within": within}, View(size=48))
        patches, followed = task.puzzle(batch, rows(32))
        angle = math.pi / 2 * patches.flatten(2).mean(2)
        z = torch.stack([angle.cos(), angle.sin()], 2)
        parts = list(z.unbind(1))[: 3 if within else 2]
        assert followed.all()
        right[within] = ranked(parts, batch.patient, followed, torch.tensor(True), task.settings, rows(32))[1]
    assert float(right[False]["accuracy"]) > 0.9
    assert float(right[True]["accuracy_within"]) < 0.7 and float(right[True]["accuracy"]) < 0.7
    standard = make("tracked_patch", STILL, View(size=48)).inputs(batch, rows(32))
    assert float(standard.flatten(1).mean(1).std()) < 1e-3, "and no patch is brighter than another"


def test_negatives_are_random_first_and_hard_later():
    task = make("tracked_patch", {}, View(size=48))
    assert not task.past >= 0.3
    task.after_step(29, 100)
    assert float(task.past) == pytest.approx(0.3) and "past" in task.state_dict()


def test_it_learns_to_find_the_end():
    torch.manual_seed(0)
    batch, task = stacks(growing(32, 48, 4)), make("tracked_patch", {}, View(size=48))
    optimizer, floor = task.optimizers(2e-3)[0], task.floor(batch, rows(32, 9999))
    seen = []
    for step in range(40):
        loss, metrics = task(batch, rows(32, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step(step, 40)
        seen.append({k: float(v) for k, v in metrics.items()} | {"loss": float(loss.detach())})
    mean = {k: sum(s[k] for s in seen[-8:]) / 8 for k in seen[0]}
    assert mean["accuracy"] > floor["accuracy"] + 0.1 and mean["accuracy_within"] > 0.7
    assert mean["loss"] < floor["loss"]


def test_it_says_what_it_needs():
    with pytest.raises(UserError, match="single point"):
        make("tracked_patch", view=View(size=20))
    with pytest.raises(UserError, match="does not fit"):
        make("tracked_patch", {"patch": 0.9, "reach": 0.2}, View(size=48))
    with pytest.raises(UserError, match="2 spatial dims"):
        make("tracked_patch", view=View(size=48, spatial_dims=3))


def test_correlation_is_the_textbooks():
    """Against every place's patch normalised by itself; where nothing varies it is 0."""
    torch.manual_seed(0)
    field = torch.rand(4, 2, 12, 12)
    field[1], field[2, :, :9] = 0.5, 0.25
    pattern = torch.rand(4, 2, 7, 7)
    pattern[3] = 0.3
    found = correlation(pattern, field).view(4, 6, 6)
    for row in range(4):
        for y in range(6):
            for x in range(6):
                a, b = (v - v.mean() for v in (pattern[row], field[row, :, y : y + 7, x : x + 7]))
                flat = a.norm() < 1e-3 or b.norm() < 1e-3
                right = 0.0 if flat else float((a * b).sum() / (a.norm() * b.norm()))
                assert float(found[row, y, x]) == pytest.approx(right, abs=1e-5)
