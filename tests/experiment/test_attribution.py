"""The heat lies where the answer comes from."""

import numpy as np
import pytest
import torch
from torch import nn

from medssl.encoders import create_encoder
from medssl.encoders.rotated import FourRotations
from medssl.errors import UserError
from medssl.experiment.attribution import attribution, rolls_out


def blobs(dims=2, side=32, channels=1, count=4):
    """Gray noise with one bright blob each, in another corner; (images, (count, dims) centres in pixels)."""
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.02 * torch.randn((count, channels) + (side,) * dims, generator=generator)
    quarter = side // 4
    corners = torch.tensor(
        [[quarter if (n >> axis) & 1 else 3 * quarter for axis in range(dims)] for n in range(count)]
    )
    for image, corner in zip(images, corners, strict=True):
        image[(slice(None), *(slice(int(c) - 3, int(c) + 3) for c in corner))] = 1.0
    return images.clamp(0, 1), corners


def peaks(heat):
    """(N, dims): where each heat is largest."""
    return torch.tensor(np.array(np.unravel_index(heat.flatten(1).argmax(1).numpy(), heat.shape[2:])).T)


def taught(encoder, images, corners):
    """A linear score that follows the blob's presence: fitted by least squares against images without one."""
    with torch.no_grad():
        bare = torch.full_like(images, 0.5)
        x = torch.cat([encoder.embed(images), encoder.embed(bare)])
        y = torch.cat([torch.ones(len(images)), -torch.ones(len(images))])
        centred = x - x.mean(0)
        weight = torch.linalg.lstsq(centred.double(), y.double(), driver="gelsd").solution.float()
    return lambda features: features @ weight


@pytest.mark.parametrize(("name", "dims", "channels"), [("small", 2, 1), ("small", 3, 1), ("small_split", 2, 2)])
def test_grad_cam_lies_on_the_planted_blob(name, dims, channels):
    encoder = create_encoder(name, dims, channels)
    images, corners = blobs(dims, 64 if dims == 2 else 32, channels)
    heat = attribution(encoder, taught(encoder, images, corners), images)
    assert heat.shape == (len(images), 1, *images.shape[2:])
    assert float(heat.min()) == 0 and float(heat.amax()) == 1
    stride = encoder.strides[-1]
    assert (peaks(heat) - corners).abs().max() <= stride


def test_the_score_decides_of_what():
    """With the sign turned, the blob speaks against the score, and the heat leaves it."""
    encoder = create_encoder("small")
    images, corners = blobs(side=64)
    score = taught(encoder, images, corners)
    mine, theirs = (attribution(encoder, which, images) for which in (score, lambda x: -score(x)))
    rows, places = range(len(images)), tuple(corners.T.tolist())
    at_blob = [[float(heat[n, 0, places[0][n], places[1][n]]) for n in rows] for heat in (mine, theirs)]
    assert min(at_blob[0]) > 2 * max(at_blob[1])


def test_of_a_head_the_winning_output_is_explained():
    encoder = create_encoder("small")
    images, corners = blobs(side=64)
    score = taught(encoder, images, corners)
    head = attribution(encoder, lambda x: torch.stack([score(x), score(x) - 9], 1), images)
    assert torch.allclose(head, attribution(encoder, score, images), atol=1e-5)


def test_four_rotations_are_turned_back():
    inner = create_encoder("small")
    images, corners = blobs(side=64)
    score = taught(inner, images, corners)
    width = inner.embed_dim
    heat = attribution(FourRotations(inner), lambda x: score(x[:, :width]) + score(x[:, width : 2 * width]), images)
    assert (peaks(heat) - corners).abs().max() <= inner.strides[-1]


def test_roll_out_lies_on_the_planted_blob():
    """A small transformer whose attention is written by hand: keys are large where the first feature, which the patch
    embedding makes the brightness, is large."""
    encoder = create_encoder("small_vit")
    with torch.no_grad():
        encoder.patches.weight.zero_()
        encoder.patches.bias.zero_()
        encoder.patches.weight[0] = 1.0
        for block in encoder.blocks:
            for layer in (block.linear2, block.self_attn.out_proj):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            weight = torch.zeros_like(block.self_attn.in_proj_weight)
            bias = torch.zeros_like(block.self_attn.in_proj_bias)
            bias[0] = 1.0  # the first head's query asks
            weight[192, 0] = 3.0  # for keys of bright patches
            block.self_attn.in_proj_weight.copy_(weight)
            block.self_attn.in_proj_bias.copy_(bias)
    images, corners = blobs(side=64)
    heat = attribution(encoder, lambda x: x[:, 0], images)
    assert heat.shape == images.shape
    assert (peaks(heat) - corners).abs().max() <= encoder.patch


def test_transformers_of_timm_with_and_without_class_token():
    for name in ("test_vit", "test_vit2"):
        encoder = create_encoder(name)
        images = torch.rand(2, 1, 48, 32)
        heat = attribution(encoder, lambda x: x.sum(1), images)
        assert heat.shape == images.shape and heat.isfinite().all() and float(heat.amax()) == 1


def test_the_attention_read_is_the_one_that_torch_computes():
    from medssl.experiment.attribution import _attention

    block, x = create_encoder("test_vit").network.blocks[0], torch.randn(2, 5, 64)
    with torch.no_grad():
        parts = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        one_hot = torch.eye(5).expand(2, block.attn.num_heads, 5, 5)
        used = nn.functional.scaled_dot_product_attention(parts[0], parts[1], one_hot)
        assert torch.allclose(_attention(block, x), used.mean(1), atol=1e-6)


def test_a_network_of_timm_and_its_mode_and_gradients_are_left_as_they_were():
    encoder = create_encoder("tf_efficientnet_lite0", weights="random").train()
    encoder.requires_grad_(True)
    next(encoder.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in encoder.parameters()]
    heat = attribution(encoder, lambda x: x.sum(1), torch.rand(2, 1, 64, 64))
    assert heat.shape == (2, 1, 64, 64)
    assert encoder.training and [p.requires_grad for p in encoder.parameters()] == wanted
    assert all(p.grad is None for p in encoder.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def test_nothing_that_speaks_for_the_score_gives_no_heat():
    heat = attribution(create_encoder("small"), lambda x: 0 * x.sum(1), torch.rand(1, 1, 32, 32))
    assert float(heat.abs().max()) == 0


def test_a_transformer_without_readable_attention_is_said_in_a_sentence():
    encoder = create_encoder("test_vit")
    encoder.network.blocks[0].attn = nn.Identity()
    with pytest.raises(UserError, match="do not show their attention"):
        attribution(encoder, lambda x: x.sum(1), torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize(("name", "expected"), [("small", False), ("small_vit", True), ("test_vit", True)])
def test_which_encoders_roll_out(name, expected):
    assert rolls_out(create_encoder(name)) is expected
    assert rolls_out(FourRotations(create_encoder(name))) is expected
