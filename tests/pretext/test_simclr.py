"""NT-Xent against a naive double loop and against lightly."""

import math

import pytest
import torch

from medssl.pretext.simclr import nt_xent


def naive(first, second, temperature, apart=None):
    """Chen 2020, algorithm 1, one pair at a time."""
    z = [v / v.norm() for v in [*first, *second]]
    n, total = len(first), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        terms = [
            math.exp(float(z[i] @ z[k]) / temperature)
            for k in range(2 * n)
            if k == j or (k != i and (apart is None or apart[i % n][k % n]))
        ]
        total += -math.log(math.exp(float(z[i] @ z[j]) / temperature) / sum(terms))
    return total / (2 * n)


@pytest.fixture
def pairs():
    g = torch.Generator().manual_seed(0)
    first = torch.randn(7, 5, generator=g)
    return first, first + 0.5 * torch.randn(7, 5, generator=g)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_the_double_loop_and_lightly(pairs, temperature):
    from lightly.loss import NTXentLoss

    ours, _ = nt_xent(*pairs, temperature)
    assert float(ours) == pytest.approx(naive(*pairs, temperature), abs=1e-5)
    assert float(ours) == pytest.approx(float(NTXentLoss(temperature)(*pairs)), abs=1e-5)


def test_images_that_are_not_apart_are_no_negatives(pairs):
    patient = torch.tensor([0, 0, 1, 1, 2, 3, 4])
    apart = patient[:, None] != patient[None, :]
    ours, _ = nt_xent(*pairs, 0.2, apart)
    assert float(ours) == pytest.approx(naive(*pairs, 0.2, apart.tolist()), abs=1e-5)
    assert float(ours) < naive(*pairs, 0.2)


def test_gradients_equal_lightlys(pairs):
    from lightly.loss import NTXentLoss

    grads = []
    for loss in (lambda a, b: nt_xent(a, b, 0.2)[0], NTXentLoss(0.2)):
        a, b = (p.clone().requires_grad_() for p in pairs)
        loss(a, b).backward()
        grads.append((a.grad, b.grad))
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(*grads, strict=True))


def test_accuracy_counts_found_partners(pairs):
    first, _ = pairs
    assert float(nt_xent(first, first, 0.2)[1]["accuracy"]) == 1
    assert float(nt_xent(first, -first, 0.2)[1]["accuracy"]) == 0


def _one_process(rank, folder):
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    first, second = torch.randn(6, 4), torch.randn(6, 4)
    own = slice(3 * rank, 3 * rank + 3)
    a, b = first[own].clone().requires_grad_(), second[own].clone().requires_grad_()
    loss, _ = nt_xent(a, b, 0.3)
    loss.backward()
    torch.save((loss.detach(), a.grad, b.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    torch.manual_seed(0)
    a, b = torch.randn(6, 4).requires_grad_(), torch.randn(6, 4).requires_grad_()
    loss, _ = nt_xent(a, b, 0.3)
    loss.backward()
    assert sum(p[0].item() for p in parts) / 2 == pytest.approx(loss.item(), abs=1e-6)
    for place, whole in ((1, a.grad), (2, b.grad)):
        # each process differentiates its own mean; averaging over processes, as DDP does, gives the whole gradient
        assert torch.allclose(torch.cat([p[place] for p in parts]) / 2, whole, atol=1e-6)
