"""Where in an image an answer comes from: Grad-CAM for convolutional networks, attention roll-out for transformers.

It lies in this room and not in encoders/, whose code is part of every encoder's and every job's name: a change of how
heat is drawn must not let anything be trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.encoders import Encoder
from medssl.encoders.embed import layout
from medssl.encoders.rotated import ROTATIONS, FourRotations
from medssl.encoders.split import SplitResNet
from medssl.encoders.timm_encoder import TimmViT
from medssl.encoders.vit import SmallViT
from medssl.errors import UserError

SMOOTH = {2: "bilinear", 3: "trilinear"}  # how the coarse map is brought to the image's size


def attribution(encoder: Encoder, score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Heat over each image: how much each place speaks for the score.

    Of a convolutional network it is Grad-CAM (Selvaraju 2017, arXiv:1610.02391): the maps that its last stage ends
    with, weighted by the mean gradient of the score, positive part. Of a transformer it is attention roll-out (Abnar &
    Zuidema 2020, arXiv:2005.00928), which shows what the image's vector is gathered from whatever the score: attention
    of each block (mean over heads) and shortcut weigh the same, and the blocks are multiplied.

    Args:
        encoder: on any device; put into eval mode for the time of the call, and its weights get no gradient.
        score: of the pooled features (N, D), as `encoder.embed` gives them: a value (N,) each, or the outputs of a head
            (N, outputs), of which each image's largest is explained.
        images: (N, C, *spatial) in [0, 1].

    Returns:
        (N, 1, *spatial) float32 on the CPU, from 0 to 1 in each image; all 0 where nothing speaks for the score.

    Raises:
        UserError: a network of timm that shows neither maps nor attention.
    """
    images = images.to(encoder.mean.device)
    if encoder.spatial_dims == 2:
        images = images.contiguous(memory_format=layout(2))
    training, learning = encoder.training, [p for p in encoder.parameters() if p.requires_grad]
    inner = encoder.inner if isinstance(encoder, FourRotations) else encoder
    encoder.eval().requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            find = _rolled_out if rolls_out(encoder) else _grad_cam
            heat = find(encoder, inner, score, images)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        encoder.train(training)
    heat = functional.interpolate(heat[:, None], images.shape[2:], mode=SMOOTH[encoder.spatial_dims])
    if isinstance(encoder, FourRotations):  # each turn's map is turned back
        turned = [torch.rot90(part, -k, (-2, -1)) for k, part in enumerate(heat.chunk(ROTATIONS))]
        heat = torch.stack(turned).mean(0)
    return _from_zero_to_one(heat.detach().float().cpu())


def rolls_out(encoder: Encoder) -> bool:
    """Whether the heat of an encoder is attention roll-out, and so the same whatever the score."""
    inner = encoder.inner if isinstance(encoder, FourRotations) else encoder
    return isinstance(inner, SmallViT | TimmViT)


def _grad_cam(encoder: Encoder, inner: Encoder, score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(M, *coarse): the class activation map, M = N, or 4 N of four rotations."""
    maps: list[Tensor] = []

    def keep(module: nn.Module, given: Any, found: Tensor) -> Tensor:
        maps.append(found if found.requires_grad else found.detach().requires_grad_())
        return maps[-1]

    with _hooks(ends.register_forward_hook(keep) for ends in _last_stages(inner)):
        value = _of_each(score(encoder.embed(images)))
    if not maps:
        raise UserError(f"'{inner.name}' shows no maps of its last stage", "encoder", "Take another encoder.")
    gradients = torch.autograd.grad(value.sum(), maps)
    pairs = [_channels_first(m, g, inner) for m, g in zip(maps, gradients, strict=True)]
    spatial = tuple(range(2, 2 + inner.spatial_dims))
    return torch.stack([(g.mean(spatial, keepdim=True) * m).sum(1) for m, g in pairs]).sum(0).relu()


def _last_stages(encoder: Encoder) -> list[nn.Module]:
    """The modules that the encoder's last stage ends with; a split-brain encoder has two halves."""
    parts = list(encoder.parts) if isinstance(encoder, SplitResNet) else [encoder]
    return [part.get_submodule(part.stage_ends()[-1]) for part in parts]  # type: ignore[operator]


def _channels_first(maps: Tensor, gradients: Tensor, encoder: Encoder) -> tuple[Tensor, Tensor]:
    """Some networks of timm (Swin) carry the channels last."""
    if maps.ndim != 2 + encoder.spatial_dims:
        raise UserError(f"the last stage of '{encoder.name}' gives no maps", "encoder", "Take another encoder.")
    if maps.shape[1] != encoder.channels[-1] and maps.shape[-1] == encoder.channels[-1]:
        return maps.movedim(-1, 1), gradients.movedim(-1, 1)
    return maps, gradients


def _rolled_out(encoder: Encoder, inner: Encoder, score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(M, *grid): the share that each patch has in the image's vector."""
    net: Any = inner.network if isinstance(inner, TimmViT) else inner
    seen: list[Tensor] = []

    def keep(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(_attention(block, given[0]))

    with torch.no_grad(), _hooks(block.register_forward_pre_hook(keep) for block in net.blocks):
        encoder.embed(images)
    rolled = torch.eye(seen[0].shape[1], device=images.device)
    for attention in seen:
        rolled = (attention + torch.eye(attention.shape[1], device=images.device)) / 2 @ rolled
    first = getattr(net, "num_prefix_tokens", 0)
    if first and net.global_pool == "token":
        readers = rolled[:, : 2 if hasattr(net, "dist_token") else 1]
    else:
        readers = rolled[:, first:]
    patches = readers.mean(1)[:, first:]
    return patches.unflatten(1, [side // inner.patch for side in images.shape[2:]])


def _attention(block: Any, x: Tensor) -> Tensor:
    """(M, L, L): whom each token of x (M, L, D) attends to in this block, mean over the heads."""
    if isinstance(block, nn.TransformerEncoderLayer):
        x = block.norm1(x)
        return block.self_attn(x, x, x, need_weights=True)[1]
    attn: Any = getattr(block, "attn", None)
    if not hasattr(attn, "qkv") or not hasattr(block, "norm1"):
        raise UserError("the blocks of this transformer do not show their attention", "encoder", "Take another one.")
    qkv = attn.qkv(block.norm1(x)).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = attn.q_norm(qkv[0]), attn.k_norm(qkv[1])
    return (query @ key.mT * attn.scale).softmax(3).mean(1)


def _of_each(value: Tensor) -> Tensor:
    return value if value.ndim == 1 else value.amax(1)


@contextmanager
def _hooks(handles: Iterator[Any]) -> Iterator[None]:
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


def _from_zero_to_one(heat: Tensor) -> Tensor:
    """Each image's lowest value becomes 0 and its highest 1."""
    flat = heat.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    shape = (-1,) + (1,) * (heat.ndim - 1)
    return (heat - low.view(shape)) / (high - low).clamp_min(1e-12).view(shape)
