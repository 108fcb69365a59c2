import torch

from medssl.encoders import create_encoder, encoder_hash, load_checkpoint, save_checkpoint
from medssl.encoders.rotated import FourRotations, rotations


def test_the_four_rotations_stand_side_by_side():
    inner = create_encoder("small", seed=1)
    encoder = FourRotations(inner).eval()
    x = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        wide = encoder.embed(x)
        assert wide.shape == (3, encoder.embed_dim) == (3, 4 * inner.embed_dim)
        for k in range(4):
            turned = torch.stack([torch.rot90(image, k, (1, 2)) for image in x])
            mine = wide[:, k * inner.embed_dim : (k + 1) * inner.embed_dim]
            assert torch.allclose(mine, inner.embed(turned), atol=1e-5)
        assert torch.equal(encoder(x)[-1], inner(x)[-1])
    assert not torch.allclose(wide[:, : inner.embed_dim], wide[:, inner.embed_dim : 2 * inner.embed_dim], atol=1e-3)


def test_volumes_turn_in_the_plane_of_their_slices():
    x = torch.rand(2, 1, 3, 8, 8)
    turned = rotations(x).view(4, 2, 1, 3, 8, 8)
    assert torch.equal(turned[0], x) and torch.equal(turned[2], x.flip(-1, -2))
    assert torch.equal(turned[1][0, 0, 2], torch.rot90(x[0, 0, 2], 1, (0, 1)))


def test_a_checkpoint_brings_the_rotations_back(tmp_path):
    encoder = FourRotations(create_encoder("small", seed=3)).eval()
    again = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", encoder)).encoder
    assert isinstance(again, FourRotations) and encoder_hash(again) == encoder_hash(encoder)
