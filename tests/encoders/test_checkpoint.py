"""Checkpoints come back whole, say what they hold, and refuse what does not fit."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from medssl.encoders import create_encoder, embed_all, encoder_hash, load_checkpoint, save_checkpoint
from medssl.errors import UserError


def test_encoder_heads_and_metadata_come_back(tmp_path):
    encoder, head = create_encoder("small", seed=3), nn.Linear(256, 4)
    path = save_checkpoint(tmp_path / "c.safetensors", encoder, {"head": head}, {"task": "rotation", "steps": 7})
    loaded, metadata, report, heads = load_checkpoint(path)
    assert encoder_hash(loaded) == encoder_hash(encoder)
    assert (metadata["task"], metadata["steps"]) == ("rotation", 7)
    assert metadata["architecture"]["name"] == "small" and "torch" in metadata["versions"]
    assert len(report.loaded) == len(encoder.state_dict()) and not report.missing and not report.unexpected
    assert torch.equal(heads["head"]["weight"], head.weight)
    with safe_open(path, framework="pt") as file:
        json.loads(file.metadata()["medssl"])


def test_imagenet_encoder_survives_its_own_checkpoint(tmp_path):
    encoder = create_encoder("tf_efficientnet_lite0", weights="imagenet")
    again = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", encoder)).encoder
    assert encoder_hash(again) == encoder_hash(encoder)
    assert create_encoder("tf_efficientnet_lite0", weights=str(tmp_path / "c.safetensors")).mean.tolist() == [0.5]


def test_half_a_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", create_encoder("small"))
    with safe_open(path, framework="pt") as file:
        keys, about = list(file.keys()), file.metadata()
        kept = {k: file.get_tensor(k) for k in keys[: len(keys) // 2]}
    save_file(kept, path, metadata=about)
    with pytest.raises(UserError, match="missing"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("channels", "dropped", "says"), [(1, "", "not .64, 1, 7, 7"), (3, "layer4.1.conv2.weight", "missing")]
)
def test_a_file_that_would_leave_one_layer_random_is_refused(tmp_path, channels, dropped, says):
    """99 % of the weights fit: a gray encoder would see through a random stem."""
    import timm

    whole = timm.create_model("resnet18").state_dict()
    save_file({k: v for k, v in whole.items() if k != dropped}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=says) as error:
        create_encoder("resnet18", 2, channels, str(tmp_path / "w.safetensors"))
    assert "as many channels" in error.value.fix


def test_a_plain_state_dict_with_a_prefix_loads_and_another_network_does_not(tmp_path):
    import timm

    network = timm.create_model("resnet10t", in_chans=1)
    save_file({f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = create_encoder("resnet10t", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(encoder.network.layer1[0].conv1.weight, network.layer1[0].conv1.weight)
    with pytest.raises(UserError, match="resnet18"):
        create_encoder("resnet18", weights=str(tmp_path / "w.safetensors"))


def test_another_architecture_and_a_damaged_file_are_refused(tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", create_encoder("small"))
    with pytest.raises(UserError, match="holds 'small'"):
        create_encoder("resnet18", weights=str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)


def test_embed_all_keeps_order_mode_and_values():
    encoder = create_encoder("small").train()
    images = np.random.default_rng(0).integers(0, 256, (21, 1, 32, 32), dtype=np.uint8)
    features = embed_all(encoder, images, batch=8)
    assert encoder.training and features.shape == (21, 256) and features.dtype == np.float32
    encoder.eval()
    with torch.no_grad():
        one = encoder.embed(torch.from_numpy(images[20:]).float() / 255)
    assert np.allclose(features[20], one.numpy()[0], atol=1e-4)
