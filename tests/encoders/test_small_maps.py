"""The quicker way through small maps is the same convolution."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from medssl.encoders import create_encoder, small_maps
from medssl.encoders.small_maps import DepthwiseConv2d, SmallMapConv2d, speed_up_small_maps


def both(conv: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    other = speed_up_small_maps(nn.Sequential(conv))[0]
    assert type(other) is (SmallMapConv2d if conv.groups == 1 else DepthwiseConv2d) and other.weight is conv.weight
    return conv, other


def assert_same(plain: nn.Conv2d, quick: nn.Conv2d, side: int) -> torch.Tensor:
    """Outputs and all gradients of both on the same image are equal; returns the output."""
    found = []
    for conv in (plain, quick):
        x = torch.randn(
            4, conv.in_channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        y = conv(x.requires_grad_())
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
        found.append([y, *torch.autograd.grad((y * weights).sum(), [x, *conv.parameters()])])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)
    return y


SHAPES = [
    (1, 1, 3, 1), (1, 2, 3, 1), (2, 1, 3, 1), (3, 2, 3, 1), (4, 2, 3, 1), (4, 2, 7, 3), (5, 2, 3, 0), (9, 1, 3, 1),
    (2, 1, (3, 1), (1, 0)),
]  # fmt: skip


@pytest.mark.parametrize("side, stride, kernel, padding", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_and_its_gradients(side, stride, kernel, padding, bias):
    plain, quick = both(nn.Conv2d(3, 5, kernel, stride, padding, bias=bias).double())
    assert_same(plain, quick, side)


GATHERED = [(3, 1, 3, 1), (6, 1, 3, 1), (8, 2, 3, 1), (11, 2, 3, 1), (9, 3, 5, 2), (5, 2, 1, 0), (5, 1, (3, 1), (1, 0))]


@pytest.mark.parametrize("side, stride, kernel, padding", GATHERED)
@pytest.mark.parametrize("bias", [True, False])
def test_weights_have_their_gradient_by_a_product_on_maps_of_some_places(
    monkeypatch, side, stride, kernel, padding, bias
):
    plain = nn.Conv2d(3, 5, kernel, stride, padding, bias=bias).double()
    quick = SmallMapConv2d(3, 5, kernel, stride, padding, bias=bias).double()
    quick.load_state_dict(plain.state_dict())
    taken, neighbours = [], small_maps.neighbours
    monkeypatch.setattr(small_maps, "neighbours", lambda *given: taken.append(1) or neighbours(*given))
    assert_same(plain, quick, side)
    assert not taken, "in 32 bits the convolution is as quick"
    monkeypatch.setattr(small_maps, "_is_bf16", lambda x: True)
    y = assert_same(plain, quick, side)
    assert small_maps.FEW < y.shape[2] * y.shape[3] <= small_maps.SOME and len(taken) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gathered_gradients_under_autocast(dtype):
    """Float or bf16 images; weights keep their precision, held ones have no gradient, nor has anything without grad."""
    conv = SmallMapConv2d(16, 32, 3, padding=1, bias=False)
    x = torch.randn(8, 16, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = torch.autograd.grad(nn.functional.conv2d(x.float(), conv.weight, padding=1).square().mean(), [conv.weight])
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
        found = torch.autograd.grad(y.float().square().mean(), [conv.weight])
    assert y.dtype == torch.bfloat16 and found[0].dtype == torch.float32
    assert (found[0] - exact[0]).norm() < 0.01 * exact[0].norm()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            assert not conv(x).requires_grad
        conv.requires_grad_(False)
        conv(x.requires_grad_()).float().square().mean().backward()
    assert x.grad is not None and conv.weight.grad is None


@pytest.mark.parametrize("groups, side", [(1, 5), (4, 2)])
def test_what_follows_may_work_in_place(monkeypatch, groups, side):
    monkeypatch.setattr(small_maps, "_is_bf16", lambda x: True)
    plain, quick = both(nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False))
    x, found = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(0)), []
    for conv in (plain, quick):
        y = torch.relu_(conv(x.clone().requires_grad_()))
        found.append([y, *torch.autograd.grad(y.square().sum(), [conv.weight])])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


DEPTHWISE = [
    (1, 1, 3, 1), (2, 1, 3, 1), (2, 1, 5, 2), (3, 1, 5, 2), (4, 1, 5, 2), (4, 2, 5, 2), (5, 2, 5, 2), (7, 2, 5, 0),
    (7, 3, 5, 1), (3, 1, 7, 3), (2, 1, (1, 3), (0, 1)), (3, 1, (5, 1), (2, 0)),
]  # fmt: skip


@pytest.mark.parametrize("side, stride, kernel, padding", DEPTHWISE)
@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_kernels_larger_than_the_map_have_their_gradient(monkeypatch, side, stride, kernel, padding, bias):
    plain, quick = both(nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias).double())
    taken = []
    overlap = small_maps.overlap
    monkeypatch.setattr(small_maps, "overlap", lambda *given: taken.append(1) or overlap(*given))
    y = assert_same(plain, quick, side)
    high, wide = plain.kernel_size
    assert bool(taken) == (y.shape[2] * y.shape[3] < high * wide)


@pytest.mark.parametrize("side, stride", [(3, 1), (9, 2), (16, 1)])
def test_depthwise_computes_in_32_bits_under_autocast_to_bf16(side, stride):
    conv = both(nn.Conv2d(8, 8, 5, stride, 2, groups=8, bias=False))[1]
    x = torch.randn(16, 8, side, side, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            y = conv(x if mixed else x.float())
        assert y.dtype == (torch.bfloat16 if mixed else torch.float32)
        found.append([y.bfloat16(), *torch.autograd.grad(y.float().sum(), [conv.weight])])
    for wide, narrow in zip(*found, strict=True):
        torch.testing.assert_close(narrow, wide, rtol=0, atol=0)


@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("stride, kernel", [(1, 3), (2, 3), (2, 5), (3, 5)])
def test_depthwise_pads_as_tensorflow_does_where_timm_does(side, stride, kernel):
    plain, quick = both(Conv2dSame(6, 6, kernel, stride, groups=6).double())
    assert_same(plain, quick, side)


def test_a_frozen_depthwise_kernel_has_no_gradient():
    conv = both(nn.Conv2d(8, 8, 5, 1, 2, groups=8))[1].requires_grad_(False)
    x = torch.randn(4, 8, 2, 2, requires_grad=True)
    conv(x).sum().backward()
    assert conv.weight.grad is None and x.grad.abs().sum() > 0


def test_bf16_on_a_single_place_has_a_gradient():
    """torch's own convolution leaves there what lay in the memory (2.14, CPU, stride 2)."""
    conv = both(nn.Conv2d(8, 16, 3, 2, 1, bias=False))[1]
    x = torch.randn(4, 8, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    y.float().sum().backward()
    centre = x.bfloat16().float().sum((0, 2, 3)).expand(16, -1)
    torch.testing.assert_close(conv.weight.grad[:, :, 1, 1], centre, rtol=0.02, atol=0.02)
    assert conv.weight.grad.abs().sum() == conv.weight.grad[:, :, 1, 1].abs().sum()


def test_only_plain_convolutions_change():
    kept = nn.Sequential(
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        Conv2dSame(4, 4, 3, 2),
    )
    assert [type(m) for m in speed_up_small_maps(kept)] == [nn.Conv2d] * 4 + [Conv2dSame]


@pytest.mark.parametrize("name", ["resnet10t", "small", "tf_efficientnet_lite0"])
def test_encoders_have_it_under_the_same_names(name):
    import timm

    encoder = create_encoder(name, seed=1)
    assert any(type(m) in (SmallMapConv2d, DepthwiseConv2d) for m in encoder.modules())
    if name != "small":
        plain = timm.create_model(name, in_chans=1, num_classes=0).eval()
        plain.load_state_dict(
            {k.removeprefix("network."): v for k, v in encoder.state_dict().items() if k.startswith("network.")}
        )
        x = torch.rand(2, 1, 64, 64)
        torch.testing.assert_close(encoder.embed(x), plain(encoder.normalise(x)), rtol=1e-4, atol=1e-5)
