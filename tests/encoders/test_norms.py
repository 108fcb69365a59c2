"""What batch norms know of images."""

import pytest
import torch

from medssl.encoders import create_encoder
from medssl.encoders.norms import settle_norms, settled


@pytest.mark.parametrize(("init", "known"), [("random", False), ("imagenet", True), ("imagenet_to_2", False)])
def test_random_ones_know_nothing_even_behind_others_that_do(init, known):
    assert settled(create_encoder("tf_efficientnet_lite0", 2, 1, init, seed=0)) == known


def test_without_batch_norms_there_is_nothing_to_settle():
    encoder = create_encoder("small_gn", seed=0)
    assert settled(encoder)
    settle_norms(encoder, [torch.rand(4, 1, 32, 32)])


def test_the_first_norm_has_the_mean_over_batches_of_equal_weight():
    encoder = create_encoder("small", seed=0).eval()
    given = {}

    def note(module, inputs):
        given.setdefault(module, []).append(inputs[0].detach())

    norm = next(m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))
    handle = norm.register_forward_pre_hook(note)
    momentum = norm.momentum
    settle_norms(encoder, torch.rand(24, 1, 32, 32).split(8))
    handle.remove()
    seen = torch.stack([x.mean((0, 2, 3)) for x in given[norm]])
    assert len(seen) == 3
    torch.testing.assert_close(norm.running_mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    assert norm.momentum == momentum and not encoder.training and settled(encoder)
