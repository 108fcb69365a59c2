"""MAE and SimMIM: what is hidden is not seen, and only that counts; the transformer that they run on."""

import pytest
import torch
from test_tasks import PLAIN, batch_of, faces, make, train

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext.mae import images_of, patches_of
from medssl.pretext.simmim import absolute_error

STILL = {"views": {"crop": [1, 1], "rotation": 0, "brightness": 0, "contrast": 0}}


def rows(count, step=0):
    return RowGenerator(0, step, torch.arange(count))


def spread(hidden, patch, size):
    """(N, L) as (N, 1, size, size)."""
    cells = size // patch
    return hidden.view(-1, 1, cells, cells).repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def test_patches_are_lightlys_and_come_back():
    from lightly.models.utils import patchify

    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(patches_of(images, 8), patchify(images, 8))
    for shape in ((2, 3, 16, 24), (2, 1, 16, 8, 24)):
        images = torch.rand(shape)
        grid = torch.Size(side // 8 for side in shape[2:])
        assert torch.equal(images_of(patches_of(images, 8), grid, 8), images)


def test_mae_hides_three_quarters_and_never_sees_them():
    task = make("mae", STILL)
    images, hidden = task.puzzle(batch_of(faces(6)), rows(6))
    assert hidden.sum(1).tolist() == [12] * 6 and len({tuple(h.tolist()) for h in hidden}) > 1
    other = torch.where(spread(hidden, 8, 32), torch.rand_like(images), images)
    task.eval()
    with torch.no_grad():
        assert torch.equal(task.painted(images, hidden), task.painted(other, hidden))
        assert not torch.allclose(task.painted(images, hidden), task.painted(1 - images, hidden))


@pytest.mark.parametrize("standardise", [True, False])
def test_the_floor_of_mae_knows_what_lies_where(standardise):
    """Scans that are aligned: painting the mean of each place tells no image from another one."""
    g = torch.Generator().manual_seed(0)
    images = torch.rand(1, 1, 32, 32, generator=g) + 0.1 * torch.rand(64, 1, 32, 32, generator=g)
    batch = batch_of(images / 1.1)
    task = make("mae", STILL | {"standardise": standardise})
    targets, (_, hidden) = task.targets(batch.images), task.puzzle(batch, rows(64))
    mean = targets.mean(0).expand_as(targets)
    placed = float((targets - mean)[hidden].square().mean())
    floor = task.floor(batch, rows(64))["loss"]
    assert placed < floor < 1.05 * placed and floor < 0.2 * float(targets[hidden].var())
    task.painted = lambda images, hidden: mean
    assert float(task.loss(batch, rows(64))[0]) > 0.95 * floor, "a decoder that knows places alone clears no alarm"


@pytest.mark.parametrize("standardise", [True, False])
def test_mae_counts_hidden_patches_alone(standardise):
    task = make("mae", STILL | {"standardise": standardise})
    batch = batch_of(faces(6))
    images, hidden = task.puzzle(batch, rows(6))
    targets, total, count = task.targets(images), 0.0, 0
    task.painted = lambda images, hidden: torch.where(hidden[:, :, None], 0.25, 99.0).expand(-1, -1, 64)
    for n in range(6):
        for place in range(16):
            if hidden[n, place]:
                y, x = divmod(place, 4)
                patch = images[n, 0, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].flatten()
                if standardise:
                    patch = (patch - patch.mean()) / (patch.var() + 1e-4).sqrt()
                assert torch.allclose(patch, targets[n, place], atol=1e-5)
                total, count = total + float((patch - 0.25).square().sum()), count + 64
    assert float(task(batch, rows(6))[0]) == pytest.approx(total / count, rel=1e-4)


def test_the_decoder_of_mae_puts_tokens_where_they_came_from():
    task = make("mae", STILL)
    images, hidden = task.puzzle(batch_of(faces(4)), rows(4))
    seen = {}
    task.blocks[0].register_forward_hook(lambda module, x, y: seen.update(canvas=x[0]))
    task.painted(images, hidden)
    tokens = task.widen(task.encoder.tokens(images, hidden))
    from medssl.encoders.vit import positions

    places = positions(task.grid, 96, torch.device("cpu"))
    for n in range(4):
        visible = (~hidden[n]).nonzero()[:, 0]
        assert torch.allclose(seen["canvas"][n, visible], tokens[n] + places[visible], atol=1e-5)
        assert torch.allclose(seen["canvas"][n, hidden[n]], task.blank + places[hidden[n]], atol=1e-6)


def test_simmim_covers_what_it_must_paint():
    task = make("simmim", STILL | {"hidden": 0.5})
    batch, covers = batch_of(faces(6)), torch.rand_like(task.cover)
    task.cover.data = covers
    images, hidden = task.puzzle(batch, rows(6))
    assert hidden.flatten(1).float().mean(1).tolist() == [0.5] * 6
    blocks = hidden.view(6, 2, 16, 2, 16).float().mean((2, 4))
    assert set(blocks.flatten().tolist()) == {0.0, 1.0}
    seen = task.covered(images, hidden)
    assert torch.equal(seen[~hidden], images[~hidden])
    assert torch.equal(seen[hidden].view(-1, 16), covers.tile(1, 1, 2, 2).expand(6, -1, -1, -1)[hidden].view(-1, 16))
    painted = torch.where(hidden, images + 0.5, 99.0)
    assert float(absolute_error(painted, images, hidden)) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(("name", "encoder"), [("mae", "small_vit"), ("simmim", "small_vit"), ("simmim", "small")])
def test_they_learn(name, encoder):
    images = faces(32)
    task = make(name, PLAIN, encoder=encoder)
    floor = task.floor(batch_of(images), rows(32, 9999))["loss"]
    before = torch.get_rng_state()
    steps = 240 if name == "mae" else 60  # it paints the mean of each place first, as its floor does
    assert train(task, steps, images)["loss"] < 0.95 * floor
    assert torch.equal(torch.get_rng_state(), before), "all draws come from the row generator"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mae", {"encoder": "small"}, "small_vit"),
        ("mae", {"view": View(size=36)}, "patches of 8"),
        ("simclr", {"view": View(size=36), "encoder": "small_vit"}, "patches of 8"),
        ("mae", {"settings": {"hidden": 0.99}}, "nothing to see"),
        ("mae", {"settings": {"hidden": 0.01}}, "nothing to paint"),
        ("simmim", {"settings": {"hidden": 0.99}}, "nothing to see"),
        ("simmim", {"view": View(size=40)}, "not divided"),
        ("simmim", {"settings": {"block": 12}}, "not divided"),
    ],
)
def test_what_leaves_nothing_or_does_not_fit_is_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        make(name, **options)


@pytest.mark.parametrize(("name", "dims"), [("small_vit", 2), ("small_vit", 3), ("vit_tiny_patch16_224", 2)])
def test_transformers_give_tokens_of_what_is_not_masked(name, dims):
    encoder = create_encoder(name, dims)
    x, patch = torch.rand((2, 1) + (32,) * dims), encoder.patch
    total = (32 // patch) ** dims
    mask = torch.zeros(2, total, dtype=torch.bool)
    mask[0, 0] = mask[1, -1] = True
    with torch.no_grad():
        assert encoder.tokens(x).shape == (2, total, encoder.embed_dim)
        some = encoder.tokens(x, mask)
        changed = x.clone()
        corner, end = (slice(0, patch),) * dims, (slice(32 - patch, 32),) * dims
        changed[(0, 0, *corner)] = 0
        changed[(1, 0, *end)] = 0
        assert some.shape == (2, total - 1, encoder.embed_dim)
        assert torch.equal(some, encoder.tokens(changed, mask))
        assert not torch.allclose(encoder.tokens(x), encoder.tokens(changed), atol=1e-3)
        larger = encoder.embed(torch.rand((1, 1) + (64,) * dims))
        assert larger.shape == (1, encoder.embed_dim), "at any size that the patch divides"


@pytest.mark.parametrize("dims", [2, 3])
def test_small_vit_keeps_the_contract_and_loads_again(dims, tmp_path):
    from medssl.encoders import load_checkpoint, save_checkpoint

    encoder = create_encoder("small_vit", dims)
    x = torch.rand((2, 1) + (32,) * dims)
    pyramid = encoder(x)
    assert [f.shape[1] for f in pyramid] == encoder.channels
    assert [32 // f.shape[2] for f in pyramid] == encoder.strides
    assert torch.allclose(encoder.embed(x), pyramid[-1].flatten(2).mean(2), atol=1e-5)
    again = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", encoder)).encoder
    assert torch.equal(again.embed(x), encoder.embed(x))
    assert 2.5e6 < sum(p.numel() for p in encoder.parameters()) < 3e6
    with pytest.raises(UserError, match="no weights"):
        create_encoder("small_vit", dims, weights="imagenet")


def test_mae_runs_in_bf16_on_volumes():
    task = make("mae", view=View(size=32, spatial_dims=3), dims=3)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = task(batch_of(torch.rand(4, 1, 32, 32, 32)), rows(4))
    loss.backward()
    assert torch.isfinite(loss) and loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in task.parameters())
