"""The house's transformer: which way its attention is computed."""

import pytest
import torch
from torch.nn import functional

from medssl.encoders import create_encoder
from medssl.encoders.vit import FEW


@pytest.fixture
def ways(monkeypatch):
    """Whether flash attention was allowed, of every call."""
    seen, attention = [], functional.scaled_dot_product_attention

    def watched(*arguments, **named):
        seen.append(torch.backends.cuda.flash_sdp_enabled())
        return attention(*arguments, **named)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    return seen


def trained(encoder, side, mixed):
    """The vector of two images, and the gradient of its sum in the first block."""
    encoder.zero_grad()
    images = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = encoder.embed(images)
    found.float().square().sum().backward()
    return found.detach().float(), encoder.blocks[0].linear1.weight.grad.clone()


def test_attention_of_few_tokens_is_written_out_in_bf16(ways):
    encoder = create_encoder("small_vit", seed=1).train()
    trained(encoder, 64, mixed=False)
    assert ways and all(ways)
    ways.clear()
    trained(encoder, 64, mixed=True)
    assert ways and not any(ways)
    ways.clear()
    trained(encoder, 104, mixed=True)
    assert (104 // encoder.patch) ** 2 > FEW and ways and all(ways)


def test_both_ways_are_one_function():
    encoder = create_encoder("small_vit", seed=1).train()
    for plain, mixed in zip(trained(encoder, 64, mixed=False), trained(encoder, 64, mixed=True), strict=True):
        assert (plain - mixed).norm() < 0.02 * plain.norm()
