"""Every tensor of an encoder lies in one stage, and held stages stay as they are."""

import pytest
import torch

from medssl.encoders import create_encoder
from medssl.errors import UserError


def parts(encoder):
    return [{name.rpartition(".")[0] for name in stage.tensors} for stage in encoder.in_stages()]


@pytest.mark.parametrize(
    ("name", "dims", "channels", "stages"),
    [
        ("small", 2, 1, 5),
        ("small", 3, 1, 5),
        ("small_gn", 2, 1, 5),
        ("small_split", 2, 2, 5),
        ("small_vit", 2, 1, 8),  # stem, six blocks, the last norm
        ("resnet10", 3, 1, 5),
        ("resnet10t", 2, 1, 5),
        ("tf_efficientnet_lite0", 2, 1, 7),  # stem, five resolutions, the last 1x1 convolution
        ("mobilenetv3_small_050", 2, 1, 6),
        ("regnetx_002", 2, 1, 5),
        ("densenet121", 2, 1, 5),
        ("vit_tiny_patch16_224", 2, 1, 14),
    ],
)
def test_every_tensor_and_module_is_in_one_stage(name, dims, channels, stages):
    encoder = create_encoder(name, dims, channels)
    found = encoder.in_stages()
    assert len(found) == stages and all(stage.tensors for stage in found)
    assert sorted(n for stage in found for n in stage.tensors) == sorted(encoder.state_dict())
    modules = [id(module) for stage in found for module in stage.modules]
    assert sorted(modules) == sorted(map(id, encoder.modules()))
    assert {"mean", "std"} <= set(found[0].tensors)


def test_stages_follow_the_network():
    assert parts(create_encoder("small"))[0] == {"", "stem.0", "stem.1"}
    assert all(name.startswith("stages.3.") for name in parts(create_encoder("small"))[4])
    lite = parts(create_encoder("tf_efficientnet_lite0"))
    assert lite[0] == {"", "network.conv_stem", "network.bn1"}
    assert lite[6] == {"network.conv_head", "network.bn2"}
    assert {name.split(".")[2] for name in lite[4]} == {"3", "4"}  # blocks of 1/16 of the resolution
    vit = create_encoder("vit_tiny_patch16_224").in_stages()
    assert {"network.cls_token", "network.pos_embed", "network.patch_embed.proj.weight"} <= set(vit[0].tensors)


@pytest.mark.parametrize(("name", "channels"), [("small", 1), ("small_split", 2)])
def test_held_stages_are_untouched_by_training_and_can_be_let_go(name, channels):
    encoder = create_encoder(name, 2, channels).train()
    stages = encoder.in_stages()
    encoder.hold(stages[:3])
    before = {key: value.clone() for key, value in encoder.state_dict().items()}

    def step():
        learning = [weight for weight in encoder.parameters() if weight.requires_grad]
        encoder.embed(torch.rand(4, channels, 32, 32)).square().mean().backward()
        torch.optim.SGD(learning, 0.1).step()
        after = encoder.state_dict()
        return {key for key in after if not torch.equal(after[key], before[key])}

    changed = step()
    assert not changed & {key for stage in stages[:3] for key in stage.tensors}
    assert all(changed & set(stage.tensors) for stage in stages[3:])
    encoder.hold(stages[:3], still=False)
    assert step() >= {key for stage in stages[1:] for key in stage.tensors if key.endswith("running_mean")}
    assert all(module.training for module in encoder.modules())


def test_a_stage_that_is_not_there_is_refused_with_those_that_are():
    encoder = create_encoder("small")
    assert len(encoder.stages_to(4, "here")) == 5
    with pytest.raises(UserError, match=r"here: 'small' has no stage 5(.|\n)*from 0 to 4"):
        encoder.stages_to(5, "here")
