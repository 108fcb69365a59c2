"""Encoders keep their contract, and ImageNet weights answer to gray as they do to repeated gray."""

import pytest
import torch

from medssl.encoders import create_encoder, encoder_hash
from medssl.encoders.timm_encoder import load_embedded
from medssl.errors import UserError


@pytest.mark.parametrize("dims", [2, 3])
def test_small_keeps_the_contract_in_2d_and_3d(dims):
    encoder = create_encoder("small", spatial_dims=dims)
    x = torch.rand((2, 1) + (32,) * dims)
    pyramid = encoder(x)
    assert [f.shape[1] for f in pyramid] == encoder.channels
    assert [32 // f.shape[2] for f in pyramid] == encoder.strides
    assert torch.allclose(encoder.embed(x), pyramid[-1].flatten(2).mean(2))
    assert encoder.embed(x).shape == (2, encoder.embed_dim)


@pytest.mark.parametrize(("name", "dims"), [("small_gn", 2), ("small_gn", 3), ("resnet10", 3)])
def test_other_encoders_keep_the_contract(name, dims):
    encoder = create_encoder(name, dims)
    x = torch.rand((2, 1) + (64,) * dims)
    pyramid = encoder(x)
    assert [f.shape[1] for f in pyramid] == encoder.channels
    assert [64 // f.shape[2] for f in pyramid] == encoder.strides
    assert encoder.embed(x).shape == (2, encoder.embed_dim)


def test_group_norm_knows_no_batch():
    encoder, x = create_encoder("small_gn").train(), torch.rand(6, 1, 32, 32)
    assert torch.allclose(encoder.embed(x)[:2], encoder.embed(x[:2]), atol=1e-5)


def test_small_has_the_stated_size():
    weights = sum(p.numel() for p in create_encoder("small").parameters())
    assert 1.1e6 < weights < 1.4e6


@pytest.mark.parametrize(
    ("name", "width", "depth"),
    [
        ("small_narrow", 0.5, 1),
        ("small_wide", 2, 1),
        ("small_narrow_deep", 0.5, 2),
        ("small_deep", 1, 2),
        ("small_wide_deep", 2, 2),
    ],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_width_and_depth_are_all_that_the_sizes_differ_in(name, width, depth, dims):
    small, encoder = create_encoder("small", dims), create_encoder(name, dims)
    assert encoder.channels == [int(c * width) for c in small.channels] and encoder.strides == small.strides
    blocks = [sum(type(m).__name__.endswith("BasicBlock") for m in e.modules()) for e in (small, encoder)]
    assert blocks == [4, 4 * depth] and len(encoder.in_stages()) == len(small.in_stages())
    x = torch.rand((2, 1) + (32,) * dims)
    assert [f.shape[1] for f in encoder(x)] == encoder.channels and encoder.embed(x).shape == (2, encoder.embed_dim)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0"])
def test_timm_networks_keep_the_contract(name):
    encoder = create_encoder(name)
    x = torch.rand(2, 1, 64, 64)
    pyramid = encoder(x)
    assert [f.shape[1] for f in pyramid] == encoder.channels
    assert [64 // f.shape[2] for f in pyramid] == encoder.strides
    assert encoder.embed(x).shape == (2, encoder.embed_dim)


def test_seed_decides_the_weights_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    one, same, other = (create_encoder("small", seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder_hash(one) == encoder_hash(same) != encoder_hash(other)


def test_imagenet_loads_every_tensor_and_recognises_nothing_less():
    import timm

    network = timm.create_model("tf_efficientnet_lite0")
    assert load_embedded(network) == 296 == len(network.state_dict())


def test_imagenet_gray_equals_gray_repeated_to_rgb():
    gray, colour = (create_encoder("tf_efficientnet_lite0", in_channels=c, weights="imagenet") for c in (1, 3))
    x = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(gray.embed(x), colour.embed(x.expand(-1, 3, -1, -1)), atol=1e-4)
    assert gray.network_channels == 1 and gray.embed_dim == 1280


def test_gray_is_repeated_where_the_colours_have_different_means():
    from medssl.encoders.timm_encoder import _create, _for_images

    network = _create("resnet10t", in_chans=3)
    gray = _for_images("resnet10t", 1, network).eval()
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        own = (x.expand(-1, 3, -1, -1) - gray.mean.view(1, 3, 1, 1)) / gray.std.view(1, 3, 1, 1)
        assert torch.allclose(gray.embed(x), network(own), atol=1e-5)
    assert gray.in_channels == 1 and gray.network_channels == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "resnet81"}, "resnet18"),
        ({"name": "smal"}, "small"),
        ({"name": "resnet10t", "spatial_dims": 3}, "resnet10"),
        ({"name": "small", "weights": "imagenet"}, "tf_efficientnet_lite0"),
        ({"name": "small", "weights": "nowhere.safetensors"}, "no such file"),
        ({"name": "resnet18", "weights": "no_such_tag"}, "a1_in1k"),
    ],
)
def test_wrong_names_get_an_answer_that_helps(arguments, says):
    with pytest.raises(UserError, match=says):
        create_encoder(**arguments)


def test_a_missing_network_is_said_at_once(monkeypatch, tmp_path):
    import time

    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(UserError, match="no network"):
        create_encoder("resnet18", weights="imagenet")
    assert time.monotonic() - start < 10
    assert hub.HF_HUB_OFFLINE is False
