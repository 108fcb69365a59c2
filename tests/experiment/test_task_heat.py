"""Heat of a pretext task's own answer lies where that answer comes from, on the pictures that the task was shown."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.augment import RowGenerator
from medssl.config import View, validate
from medssl.encoders import create_encoder
from medssl.experiment.attribution import attribution
from medssl.experiment.task_heat import CHOICE, GATHERED, SIMILARITY, _answer, heat_of, warmed
from medssl.pretext import task_class
from medssl.pretext.base import Batch
from medssl.training.loop import FLOOR

SIZE, ROWS = 64, 3


def batch_of(images, position=None):
    """One scan, exam and patient a row."""
    rows = torch.arange(len(images))
    shape = images.shape[:2] if images.ndim == 5 else images.shape[:1]
    position = torch.full(shape, math.nan) if position is None else position
    return Batch(images, rows.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), rows, rows, rows, position, rows)


def task_of(name, encoder="small", size=SIZE, **settings):
    torch.manual_seed(0)
    kind = task_class(name)
    own = validate(kind.Settings, settings, name)
    return kind(create_encoder(encoder), own, View(size=size), "").eval()


def blobs():
    """(ROWS, 1, SIZE, SIZE): gray, with a bright square each."""
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.02 * torch.randn(ROWS, 1, SIZE, SIZE, generator=generator)
    for image, (y, x) in zip(images, ((16, 16), (16, 48), (48, 48)), strict=True):
        image[0, y - 4 : y + 4, x - 4 : x + 4] = 1.0
    return images.clamp(0, 1)


def answers_by(task, images, answer):
    """Give `rotation` a head whose one answer follows the maps that a blob makes, however it is turned; the other
    answers are always as likely."""
    with torch.no_grad():
        turned = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
        x = torch.cat([task.encoder.embed(turned), task.encoder.embed(torch.full_like(turned, 0.5))])
        y = torch.cat([torch.ones(len(turned)), -torch.ones(len(turned))])
        weight = torch.linalg.lstsq((x - x.mean(0)).double(), y.double(), driver="gelsd").solution.float()
        task.head.weight.zero_()
        task.head.bias.zero_()
        task.head.weight[answer] = weight
        task.head.bias[answer] = -weight @ x.mean(0)


def warmest(panel):
    """(y, x) where a gray panel was made most orange: red less blue."""
    place = int((panel[0] - panel[2]).argmax())
    return torch.tensor([place // panel.shape[2], place % panel.shape[2]])


def test_the_blob_that_decides_a_choice_gets_the_heat():
    images, task = blobs(), task_of("rotation")
    task.new_view = lambda x, plan, generator: x  # turned, and nothing else
    batch = batch_of(images)
    seen, labels = task.puzzle(batch, RowGenerator(0, FLOOR, batch.rows))
    answer = int(labels[0])
    answers_by(task, images, answer)
    heat = heat_of(task, batch, seed=0, rows=ROWS)
    assert len(heat.rows) == ROWS and not heat.rolled_out
    with torch.no_grad():
        chances = task.head(task.encoder.embed(seen)).softmax(1)
    for n, row in enumerate(heat.rows):
        assert row.said == f"{CHOICE}: {float(chances[n, labels[n]]):.2f}" and len(row.panels) == 1
        if int(labels[n]) == answer:  # else the blob speaks against the right one
            bright = (seen[n, 0] == 1).nonzero().float().mean(0)
            assert (warmest(row.panels[0]) - bright).abs().max() <= task.encoder.strides[-1]


def test_of_views_that_are_compared_it_is_their_likeness():
    images, task = blobs(), task_of("simclr")
    batch = batch_of(images)
    views = task.new_views(images, task.plan, RowGenerator(0, FLOOR, batch.rows))
    heat = heat_of(task, batch, seed=0, rows=ROWS)
    for n, row in enumerate(heat.rows):
        pair = views[[n, n + ROWS]]

        def alike(vectors):
            first, second = task.projection(vectors)
            return (first @ second / first.norm() / second.norm())[None]

        expected = warmed(pair, attribution(task.encoder, alike, pair))
        assert torch.allclose(torch.stack(row.panels), expected, atol=1e-3)
        with torch.no_grad():
            value = float(alike(task.encoder.embed(pair)))
        assert row.said == f"{SIMILARITY}: {value:.2f}" and row.captions == [row.said, ""]


@pytest.mark.parametrize("name", ["relative_patch", "jigsaw", "pirl", "byol", "dino", "vicreg", "exemplar", "moco"])
def test_every_way_to_answer_is_explained(name):
    images = torch.rand(2, 1, 72, 72)
    heat = heat_of(task_of(name, size=72), batch_of(images), seed=0, rows=2)
    panels = {"relative_patch": 2, "jigsaw": 1, "pirl": 2}.get(name, 2)
    assert [len(row.panels) for row in heat.rows] == [panels] * 2
    for row in heat.rows:
        assert all(p.shape[0] == 3 and float(p.min()) >= 0 and float(p.max()) <= 1 for p in row.panels)
        assert row.said.startswith(CHOICE if name in ("relative_patch", "jigsaw") else SIMILARITY)


@pytest.mark.parametrize("name", ["slice_sorting", "slice_verification", "slice_contrast"])
def test_stacks_and_those_without_a_question(name):
    images = torch.rand(2, 12, 1, 32, 32)
    position = torch.arange(12.0).repeat(2, 1) * 2
    position[1] = math.nan
    heat = heat_of(task_of(name, size=32), batch_of(images, position), seed=0, rows=2)
    asked, unasked = heat.rows
    assert len(asked.panels) == {"slice_sorting": 4, "slice_verification": 3, "slice_contrast": 2}[name]
    assert unasked.panels == [] and "no such slices" in unasked.said


@pytest.mark.parametrize("name", ["inpainting", "infomax", "voco"])
def test_tasks_without_a_single_answer_have_no_heat(name):
    assert heat_of(task_of(name), batch_of(torch.rand(2, 1, SIZE, SIZE)), seed=0, rows=2).rows == []


def test_a_transformer_shows_what_its_vector_is_gathered_from():
    batch = batch_of(torch.rand(2, 1, SIZE, SIZE))
    heat = heat_of(task_of("mae", "small_vit"), batch, seed=0, rows=2)
    assert heat.rolled_out and [row.said for row in heat.rows] == [GATHERED] * 2


def test_the_parts_of_a_combination_stand_side_by_side():
    task = task_of("combine", parts={"rotation": {}, "inpainting": {}, "simclr": {}})
    (row,) = heat_of(task, batch_of(torch.rand(1, 1, SIZE, SIZE)), seed=0, rows=1).rows
    assert len(row.panels) == 3 and [c.partition(":")[0] for c in row.captions] == ["rotation", "simclr", ""]


def test_each_call_of_the_encoder_is_explained_alone_and_the_encoder_is_left_as_it_was():
    task = task_of("rotation")
    first, second = torch.rand(1, 1, SIZE, SIZE), torch.rand(1, 1, 32, 32)
    used = torch.rand(task.encoder.embed_dim)

    def said():
        return task.encoder.embed(first) @ used + 0 * (task.encoder.embed(second) @ used)

    row = _answer(task, said, "sum")
    assert [p.shape[1] for p in row.panels] == [SIZE, 32]
    assert float((row.panels[0][0] - row.panels[0][2]).amax()) > 0.1, "the first decides"
    assert torch.allclose(row.panels[1], second.expand(-1, 3, -1, -1)[0]), "the second does not"
    assert "embed" not in vars(task.encoder)


def test_heat_is_laid_over_in_orange():
    image, heat = torch.full((1, 1, 2, 2), 0.5), torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    found = warmed(image, heat)
    assert torch.equal(found[0, :, 0, 0], torch.full((3,), 0.5))
    assert found[0, 0, 0, 1] > 0.8 and found[0, 2, 0, 1] < 0.2
