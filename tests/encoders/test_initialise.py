"""What an initialisation keeps of ImageNet, tensor by tensor."""

import pytest
import torch

from medssl.encoders import create_encoder, encoder_hash
from medssl.errors import UserError

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def imagenet():
    return create_encoder(LITE, weights="imagenet")


@pytest.mark.parametrize("last", [0, 3])
def test_stages_up_to_k_are_imagenets_and_the_rest_is_random(imagenet, last):
    whole, mixed = imagenet.state_dict(), create_encoder(LITE, weights=f"imagenet_to_{last}", seed=5).state_dict()
    random = create_encoder(LITE, seed=5).state_dict()
    for number, stage in enumerate(imagenet.in_stages()):
        source, other = (whole, random) if number <= last else (random, whole)
        assert all(torch.equal(mixed[name], source[name]) for name in stage.tensors)  # running statistics too
        if number:  # the stem also holds mean and std of the input, equal in both
            assert not any(torch.equal(mixed[n], other[n]) for n in stage.tensors if n.endswith("running_var"))


def test_the_last_stage_makes_it_whole(imagenet):
    assert encoder_hash(create_encoder(LITE, weights="imagenet_to_6")) == encoder_hash(imagenet)


def test_mean_var_keeps_the_scale_of_each_tensor_and_no_feature(imagenet):
    drawn = create_encoder(LITE, weights="imagenet_mean_var", seed=1)
    for (name, own), whole in zip(drawn.named_parameters(), imagenet.parameters(), strict=True):
        mine, theirs = own.detach(), whole.detach()
        if mine.numel() > 10_000:
            assert float(mine.std()) == pytest.approx(float(theirs.std()), rel=0.05), name
            assert float((mine - theirs).abs().mean()) > 0.5 * float(theirs.std())
            assert abs(float(torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1])) < 0.05
    scales = [drawn.state_dict()[name] for name in drawn.state_dict() if name.endswith("bn2.weight")]
    assert all(abs(float(s.mean()) - 1) > 1e-3 for s in scales)  # norms are drawn as well
    held = drawn.state_dict()
    assert all((held[name] == 0).all() for name in held if name.endswith("running_mean"))
    assert all((held[name] == 1).all() for name in held if name.endswith("running_var"))
    again, other = (create_encoder(LITE, weights="imagenet_mean_var", seed=s) for s in (1, 2))
    assert encoder_hash(again) == encoder_hash(drawn) != encoder_hash(other)


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        (LITE, "imagenet_to_7", r"has no stage 7(.|\n)*0 to 6"),
        ("small", "imagenet_to_2", r"no weights 'imagenet_to_2'(.|\n)*tf_efficientnet_lite0"),
        (LITE, "imagenet_meanvar", "imagenet_mean_var"),
        (LITE, "imagenet_to_early", "imagenet_to_2"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(name, weights, says):
    with pytest.raises(UserError, match=says):
        create_encoder(name, weights=weights)
