"""Tasks that compare views: losses against slow references and lightly's, momentum copies, and doors to collapse."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_tasks import PLAIN, batch_of, faces, make, train

from medssl.augment import RowGenerator
from medssl.errors import UserError
from medssl.pretext.barlow_twins import barlow_twins
from medssl.pretext.exemplar import batch_hard
from medssl.pretext.heads import retrieval
from medssl.pretext.vicreg import vicreg


def pair(rows=12, width=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=g), torch.randn(rows, width, generator=g)


def test_barlow_twins_equals_its_equation_and_lightly():
    from lightly.loss import BarlowTwinsLoss

    first, second = pair()
    a, b = ((z - z.mean(0)) / z.std(0, correction=0) for z in (first, second))
    expected = 0.0
    for i in range(6):
        for j in range(6):
            correlation = sum(float(a[n, i] * b[n, j]) for n in range(12)) / 12
            expected += (1 - correlation) ** 2 if i == j else 0.01 * correlation**2
    assert float(barlow_twins(first, second, 0.01)) == pytest.approx(expected, rel=1e-4)
    theirs = BarlowTwinsLoss(lambda_param=0.01)(first, second)
    assert float(barlow_twins(first, second, 0.01)) == pytest.approx(float(theirs), rel=1e-3)


def test_vicreg_equals_its_equations_and_lightly():
    from lightly.loss import VICRegLoss

    first, second = pair()
    invariance, variance, covariance = vicreg(first, second)
    expected = sum(max(0.0, 1 - math.sqrt(float(z[:, j].var()) + 1e-4)) / 6 for z in (first, second) for j in range(6))
    assert float(variance) == pytest.approx(expected, rel=1e-5)
    off = 0.0
    for z in (first, second):
        matrix = torch.cov(z.T)
        off += sum(float(matrix[i, j]) ** 2 for i in range(6) for j in range(6) if i != j) / 6
    assert float(covariance) == pytest.approx(off, rel=1e-4)
    theirs = VICRegLoss(lambda_param=25, mu_param=25, nu_param=1)(first, second)
    ours = 25 * invariance + 25 * variance / 2 + covariance  # lightly halves the variance of two views
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)


def test_batch_hard_equals_a_double_loop():
    copies, rows = 3, 5
    z = F.normalize(torch.randn(copies * rows, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    owner = [i % rows for i in range(copies * rows)]
    losses, right = [], 0
    for i in range(len(z)):
        distance = [float((z[i] - z[j]).norm()) for j in range(len(z))]
        farthest = max(distance[j] for j in range(len(z)) if owner[j] == owner[i])
        nearest = min(distance[j] for j in range(len(z)) if owner[j] != owner[i])
        losses.append(math.log1p(math.exp(farthest - nearest)))
        right += owner[min((j for j in range(len(z)) if j != i), key=distance.__getitem__)] == owner[i]
    loss, metrics = batch_hard(z, copies)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(right / len(z))


def test_retrieval_counts_rows_that_find_their_own():
    keys = torch.eye(4)
    assert float(retrieval(keys, keys)) == 1
    assert float(retrieval(keys.roll(1, 0), keys)) == 0


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_the_slow_copy_follows_and_is_not_trained(name):
    task = make(name)
    weights = [p.clone() for p in task.slow_encoder.parameters()]
    loss, _ = task(batch_of(faces(8)), RowGenerator(0, 0, torch.arange(8)))
    loss.backward()
    assert all(p.grad is None for p in task.slow_encoder.parameters())
    with torch.no_grad():
        for p in task.encoder.parameters():
            p.add_(1.0)
    task.after_step(0, 100)
    moved = [float((p - w).mean()) for p, w in zip(task.slow_encoder.parameters(), weights, strict=True)]
    assert all(m == pytest.approx(1 - task.settings.momentum, rel=1e-3) for m in moved)
    task.after_step(100, 100)  # at the end of the run the copy stands still
    again = [float((p - w).mean()) for p, w in zip(task.slow_encoder.parameters(), weights, strict=True)]
    assert again == pytest.approx(moved, rel=1e-3)


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.5])
def test_a_small_crop_of_no_such_share_is_refused(share):
    with pytest.raises(UserError, match="local_crop"):
        make("dino", {"local_crop": [share, 0.4]})


def test_dino_keeps_its_centre_with_its_state():
    task = make("dino")
    task(batch_of(faces(8)), RowGenerator(0, 0, torch.arange(8)))
    assert float(task.centre.abs().sum()) > 0 and "centre" in task.state_dict()
    assert not any("original0" in n and p.requires_grad for n, p in task.prototypes.named_parameters())


def test_without_its_variance_term_vicreg_shrinks_to_one_code():
    images = faces(16, seed=3)
    healthy, opened = make("vicreg", PLAIN), make("vicreg", PLAIN | {"variance": 0.0, "covariance": 0.0})
    spread = []
    for task in (healthy, opened):
        codes = []
        task.projection.register_forward_hook(lambda module, x, z, codes=codes: codes.append(z.detach()))
        train(task, 20, images)
        spread.append(float(codes[-1].std(0).mean()))
    assert spread[1] < 0.5 * spread[0]


def test_simsiam_trains_its_targets_only_where_the_door_is_open():
    for stop in (True, False):
        task = make("simsiam", PLAIN | {"stop_gradient": stop})
        task.predictor.requires_grad_(False)
        for layer in task.predictor:
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.zeros_(layer.weight)  # predictions no longer depend on the encoder
        task.predictor[-1].bias.data.fill_(1.0)
        loss, _ = task(batch_of(faces(8)), RowGenerator(0, 0, torch.arange(8)))
        if loss.requires_grad:
            loss.backward()
        moved = any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in task.encoder.parameters())
        assert moved is not stop


def test_infomax_equals_a_double_loop():
    from medssl.pretext.infomax import jensen_shannon

    whole, places = torch.randn(5, 4), torch.randn(5, 4, 3)
    own, others, right = [], [], 0
    for n in range(5):
        means = []
        for m in range(5):
            scores = [float(whole[n] @ places[m, :, p]) / 2 for p in range(3)]
            means.append(sum(scores) / 3)
            if n == m:
                own += [math.log1p(math.exp(-s)) for s in scores]
            else:
                others += [math.log1p(math.exp(s)) for s in scores]
        right += max(range(5), key=means.__getitem__) == n
    loss, metrics = jensen_shannon(whole, places)
    assert float(loss) == pytest.approx(sum(own) / len(own) + sum(others) / len(others), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(right / 5)


def test_the_critic_of_infomax_and_the_encoder_do_not_train_each_other():
    task = make("infomax", {"prior": 1.0})
    loss, metrics = task(batch_of(faces(8)), RowGenerator(0, 0, torch.arange(8)))
    loss.backward()
    critic = [p.grad.clone() for p in task.critic.parameters()]
    players = task.optimizers(1e-3)
    owned = [{id(p) for group in o.param_groups for p in group["params"]} for o in players]
    assert not owned[0] & owned[1] and owned[1] == {id(p) for p in task.critic.parameters()}
    other = make("infomax", {"prior": 0.001})  # the encoder's wish to fool the critic must not reach the critic
    other(batch_of(faces(8)), RowGenerator(0, 0, torch.arange(8)))[0].backward()
    assert all(torch.allclose(a, p.grad) for a, p in zip(critic, other.critic.parameters(), strict=True))
    assert float(metrics["critic"]) > 0


def test_the_players_of_infomax_own_their_weights_in_a_fixed_order():
    """The saved state of an optimizer goes by place: an order of chance would give it to other weights on resuming."""
    task = make("infomax")
    groups = task.optimizers(1e-3)[1].param_groups
    kernels, others = (
        [p for p in task.critic.parameters() if p.ndim > 1],
        [p for p in task.critic.parameters() if p.ndim == 1],
    )
    for group, expected in zip(groups, (kernels, others), strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in expected]
