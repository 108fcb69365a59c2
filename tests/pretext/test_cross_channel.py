"""Cross-channel prediction: each group is told from the other alone, and copies are refused."""

import pytest
import torch
from test_tasks import batch_of, faces

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import task_class
from medssl.pretext.cross_channel import CrossChannel

STILL = {"views": {"crop": [1, 1], "rotation": 0}, "cell": 8}
TWO = View(size=32, contrasts=[{"bids_suffix": "T1w"}, {"bids_suffix": "T2w"}])


def make(settings=None, view=TWO, encoder="small") -> CrossChannel:
    torch.manual_seed(0)
    chosen = config.settings_for("task", "cross_channel", STILL | (settings or {}))
    return task_class("cross_channel")(create_encoder(encoder, view.spatial_dims, view.channels), chosen, view)


def contrasts(n=32, size=32, dims=2):
    """Two contrasts of one thing: the second is dark where the disc is, and bright where the bar is."""
    first = faces(n, size)
    second = 1 - first
    images = torch.cat([first, second], 1)
    return images if dims == 2 else images[:, :, None].expand(-1, -1, size, -1, -1).contiguous()


def generator(n, step=9999):
    return RowGenerator(0, step, torch.arange(n))


@pytest.mark.parametrize("encoder", ["small", "small_split"])
@pytest.mark.parametrize("form", ["classification", "regression"])
def test_it_learns_one_contrast_from_the_other(form, encoder):
    images = contrasts()
    task = make({"form": form, "levels": 8}, encoder=encoder)
    floor = task.train().floor(batch_of(images), generator(32))
    optimizers = task.optimizers(3e-3)
    for step in range(60):
        loss, metrics = task(batch_of(images), generator(32, step))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        task.after_step(step, 60)
    assert float(loss.detach()) < 0.75 * floor["loss"] and metrics.keys() == floor.keys() - {"loss"}


@pytest.mark.parametrize("encoder", ["small", "small_split"])
@pytest.mark.parametrize("dims", [2, 3])
def test_no_channel_is_seen_by_the_one_that_tells_it(encoder, dims):
    view = View(size=16, spatial_dims=dims, windows=[(0, 1), (1, 2), (2, 3)])
    task = make(view=view, encoder=encoder).eval()
    images = torch.rand(2, 3, *[16] * dims, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = task.answers(images)
        assert before.shape == (2, 3, 32, *[2] * dims)
        for changed, same in (([0], [0]), ([1, 2], [1, 2])):
            other = images.clone()
            other[:, changed] = torch.rand_like(other[:, changed])
            after = task.answers(other)
            assert torch.equal(after[:, same], before[:, same])
            rest = [c for c in range(3) if c not in same]
            assert not torch.allclose(after[:, rest], before[:, rest])


def test_the_split_encoder_is_two_halves_side_by_side():
    split, whole = create_encoder("small_split", 2, 4), create_encoder("small", 2, 4)
    assert split.channels == whole.channels and split.strides == whole.strides
    assert split.embed_dim == whole.embed_dim
    x = torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        assert [tuple(f.shape) for f in split(x)] == [tuple(f.shape) for f in whole(x)]
        other = x.clone()
        other[:, :2] = 0
        one, two = split.embed(x), split.embed(other)
    assert torch.equal(one[:, 128:], two[:, 128:]) and not torch.allclose(one[:, :128], two[:, :128])
    with pytest.raises(UserError, match="2 channels"):
        create_encoder("small_split", 2, 1)


def test_gray_levels_are_shared_by_the_two_about_them():
    task = make({"levels": 5})
    index, weight = task.encoded(torch.tensor([0.0, 0.1, 0.2, 1.0]).view(1, 1, 4))
    assert index[0, 0, :, 0].tolist() == [0, 0, 1, 4]
    value = (task.values[index][..., 0] * weight).sum(-1)
    torch.testing.assert_close(value, torch.tensor([[[0.0, 0.1, 0.2, 1.0]]]))
    assert (weight[..., 0] >= weight[..., 1]).all()


def test_what_cannot_be_told_is_refused():
    with pytest.raises(UserError, match="has one") as refused:
        CrossChannel.check(View(size=32))
    assert "contrasts" in refused.value.text("view") and "windows" in refused.value.text("view")
    with pytest.raises(UserError, match="colour") as refused:
        CrossChannel.check(View(size=32, channels=3))
    assert "colorization" in refused.value.text("view")
    with pytest.raises(UserError, match="-160 to 240 and 200 to 1500 overlap"):
        CrossChannel.check(View(size=32, windows=[(200, 1500), (-1000, -160), (-160, 240)]))
    CrossChannel.check(View(size=32, windows=[(240, 1500), (-1000, -160), (-160, 240)]))


def test_of_windows_that_overlap_one_value_tells_the_other():
    """Why they are refused: a table of gray values answers, without a look at any neighbour. Of disjoint windows it
    knows nothing of what lies inside the other one."""
    g = torch.Generator().manual_seed(0)
    units = torch.rand(20_000, generator=g) * 400

    def shown(low, high):
        return ((units - low) / (high - low)).clamp(0, 1)

    def unexplained(seen, told, inside):
        level = (seen * 255).round().long()
        mean = torch.zeros(256).index_add_(0, level, told) / torch.bincount(level, minlength=256).clamp_min(1)
        return float((told - mean[level])[inside].var() / told[inside].var())

    within = (units > 210) & (units < 390)
    assert unexplained(shown(0, 400), shown(200, 400), within) < 0.01
    assert unexplained(shown(0, 200), shown(200, 400), within) > 0.9


def test_show_gives_every_channel_seen_and_told():
    task = make().eval()
    with torch.no_grad():
        picture = task.show(batch_of(contrasts(2)), generator(2))[1]
    assert picture.captions == ["seen: channel 1", "answer: channel 2", "seen: channel 2", "answer: channel 1"]
    assert all(panel.shape == (1, 32, 32) and panel.min() >= 0 and panel.max() <= 1 for panel in picture.panels)
    solid = make(view=View(size=16, spatial_dims=3, windows=[(0, 1), (1, 2)])).eval()
    with torch.no_grad():
        assert solid.show(batch_of(contrasts(2, 16, 3)), generator(2))[0].panels[1].shape == (1, 16, 16)
