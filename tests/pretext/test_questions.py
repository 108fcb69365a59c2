"""Questions that people can answer too: what is called right is right, and the network answers the same question."""

import pytest
import torch
from test_context import STILL
from test_tasks import batch_of, faces, make

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import Batch, task_class, tasks
from medssl.pretext.questions import few, same, which_is_real
from medssl.pretext.relative_patch import SIDES

ASKED = [name for name, task in tasks().items() if task.question]
MAKERS = [name for name, task in tasks().items() if task.makes_images()]


def rows(n):
    return RowGenerator(0, 0, torch.arange(n))


def images_for(name, n=8):
    return faces(n, 36 if name not in ("mae", "simmim") else 32).repeat(1, task_class(name).channels[0], 1, 1)


def task_for(name, settings=None):
    images = images_for(name)
    task = make(name, settings, View(size=images.shape[-1], channels=images.shape[1]), in_channels=images.shape[1])
    task.meet(torch.arange(len(images)), torch.arange(len(images)))
    return task.eval(), batch_of(images, task)


@pytest.mark.parametrize("name", ASKED)
@torch.no_grad()
def test_every_question_has_an_answer_among_its_choices(name):
    task, batch = task_for(name)
    asked, again = (task.ask(batch, rows(8)) for _ in range(2))
    assert asked, "this task has a question for such images"
    assert [(q.truth, q.said) for q in asked] == [(q.truth, q.said) for q in again]
    for q in asked:
        assert 2 <= len(q.choices) <= 8 and 0 <= q.truth < len(q.choices) and 0 <= q.said < len(q.choices)
        assert len(q.shown) == len(q.captions)
        assert not any(word in caption for caption in q.captions for word in ("right", "wrong", "truth", "turned"))
        for panel in [*q.shown, *(c for c in q.choices if not isinstance(c, str))]:
            assert panel.ndim == 3 and 0 <= panel.min() <= panel.max() <= 1
    assert len({q.truth for q in asked}) > 1, "the right answer is not always at one place"


@pytest.mark.parametrize("name", MAKERS)
@torch.no_grad()
def test_what_a_network_made_lies_beside_what_is_real(name):
    task, batch = task_for(name)
    real, made = task.made(batch, rows(8))
    assert real.shape == made.shape and len(real) == 8 and not torch.equal(real, made)
    assert real.shape[1] in (1, 3), "a picture"
    assert torch.equal(task.made(batch, rows(8))[0], real)


def test_which_tasks_ask_and_make():
    assert {"rotation", "jigsaw", "relative_patch", "simclr", "slice_sorting", "slice_verification"} <= set(ASKED)
    assert {"inpainting", "cross_channel", "colorization", "mae", "simmim"} <= set(MAKERS)
    assert not set(ASKED) & {"combine", "slice_propagation", "inpainting"}


def test_a_few_choices_hold_the_right_one_anywhere():
    scores = torch.rand(500, 20, generator=torch.Generator().manual_seed(0))
    truth = torch.arange(500) % 20
    chosen, place, said = few(scores, truth, rows(500))
    assert chosen.shape == (500, 4) and torch.equal(chosen.gather(1, place[:, None])[:, 0], truth)
    assert all(len(set(row)) == 4 for row in chosen.tolist())
    assert torch.bincount(place).min() > 90 and torch.bincount(chosen.flatten()).min() > 50
    assert torch.equal(said, scores.gather(1, chosen).argmax(1))
    assert few(scores[:, :2], truth % 2, rows(500))[0].shape == (500, 2)


@torch.no_grad()
def test_rotation_is_undone_by_the_right_answer():
    for turns in ("one", "all"):
        task = make("rotation", STILL | {"turns": turns}, View(size=32)).eval()
        images = faces(8)
        asked = task.ask(batch_of(images), rows(8))
        assert len(asked) == 8
        for q, image in zip(asked, images, strict=True):
            assert torch.equal(torch.rot90(q.shown[0], -q.truth, (1, 2)), image)
        left = next(q for q in asked if q.truth == 1)
        assert left.choices[1] == "to the left", "as torch.rot90 turns, against the clock"


def test_nobody_is_asked_for_24_turns_or_26_sides():
    cube = View(size=36, spatial_dims=3, fit="crop")
    cases = ("rotation", {"axes": "all"}), ("relative_patch", {})
    for name, settings in cases:
        chosen = config.settings_for("task", name, settings)
        task = task_class(name)(create_encoder("small", 3), chosen, cube)
        with pytest.raises(UserError, match="nobody"):
            task.ask(batch_of(torch.rand(4, 1, 36, 36, 36)), rows(4))


@torch.no_grad()
def test_only_the_right_choice_puts_the_tiles_in_order():
    task = make("jigsaw", STILL | {"normalise": False}, View(size=48)).eval()
    cells = torch.arange(9.0).view(1, 1, 3, 3).expand(6, -1, -1, -1).repeat_interleave(16, 2).repeat_interleave(16, 3)
    for q in task.ask(batch_of(cells / 9), rows(6)):
        step = task.size + 2
        laid = [(choice[0, ::step, ::step] * 9).round().flatten().tolist() for choice in q.choices]
        assert [order == list(range(9)) for order in laid] == [k == q.truth for k in range(4)]


@torch.no_grad()
def test_the_second_patch_lies_where_the_right_answer_says():
    task = make("relative_patch", STILL | {"normalise": False}, View(size=48)).eval()
    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    cells = (0.1 * x + 0.3 * y).expand(16, 1, 3, 3).repeat_interleave(16, 2).repeat_interleave(16, 3)
    steps = {"above left": -0.4, "above": -0.3, "above right": -0.2, "left": -0.1}
    steps |= {"right": 0.1, "below left": 0.2, "below": 0.3, "below right": 0.4}
    for q in task.ask(batch_of(cells), rows(16)):
        gap = float(q.shown[1].mean() - q.shown[0].mean())
        assert gap == pytest.approx(steps[SIDES[q.truth]], abs=1e-4)


def stacks(n=12, depth=12, size=32):
    """Slices that are the brighter the further up they lie, with something to see on each."""
    up = torch.linspace(0.2, 0.7, depth).view(1, depth, 1, 1, 1)
    images = up + 0.2 * faces(1, size)[None] * torch.ones(n, depth, 1, 1, 1)
    each, position = torch.arange(n)[:, None].expand(-1, depth), torch.arange(float(depth)).expand(n, depth)
    return Batch(images, each, each, torch.arange(n), torch.arange(n), position, torch.arange(n))


@torch.no_grad()
def test_slices_lie_as_the_right_answers_say():
    sorting = make("slice_sorting", STILL | {"normalise": False}, View(size=32)).eval()
    for q in sorting.ask(stacks(), rows(12)):
        means = [[float(part.mean()) for part in strip.split(34, 2)] for strip in q.choices]
        assert [m in (sorted(m), sorted(m, reverse=True)) for m in means] == [k == q.truth for k in range(4)]
    verifying = make("slice_verification", STILL | {"normalise": False}, View(size=32)).eval()
    for q in verifying.ask(stacks(), rows(12)):
        first, middle, last = (float(panel.mean()) for panel in q.shown)
        assert (min(first, last) < middle < max(first, last)) == (q.choices[q.truth] == "between")
    contrast = make("slice_contrast", STILL | {"normalise": False, "near": 3, "far": 5}, View(size=32)).eval()
    for q in contrast.ask(stacks(), rows(12)):
        gaps = [abs(float(choice.mean() - q.shown[0].mean())) for choice in q.choices]
        assert gaps.index(min(gaps)) == q.truth


def test_rows_without_a_question_are_left_out():
    batch = stacks()
    batch.position = batch.position.clone()
    batch.position[3:] = float("nan")  # nobody knows where these slices lie
    task = make("slice_verification", STILL, View(size=32)).eval()
    with torch.no_grad():
        assert len(task.ask(batch, rows(12))) == 3


def test_a_view_belongs_to_the_image_that_it_was_made_of():
    images = torch.linspace(0, 1, 8).view(8, 1, 1, 1).expand(-1, -1, 4, 4)
    for q in same([(images, "one view")], images, torch.eye(8), rows(8)):
        assert torch.equal(q.choices[q.truth], q.shown[0]) and q.said == q.truth


def test_the_real_image_stands_left_or_right_by_chance():
    real, made = torch.ones(200, 1, 4, 4), torch.zeros(200, 1, 4, 4)
    scores = torch.cat([torch.arange(200) % 2, torch.full((200,), 0.5)])  # every second real one is found out
    asked = which_is_real(real, made, scores, rows(200))
    assert all(q.choices[q.truth].mean() == 1 and q.choices[1 - q.truth].mean() == 0 for q in asked)
    assert 70 < sum(q.truth for q in asked) < 130
    assert [q.said == q.truth for q in asked] == [k % 2 == 1 for k in range(200)]
    assert which_is_real(real, made, None, rows(200))[0].said is None


@torch.no_grad()
def test_what_is_visible_is_not_painted_and_an_adversary_judges():
    task, batch = task_for("inpainting")
    seen = task.puzzle(batch, rows(8))
    real, made = task.made(batch, rows(8))
    assert torch.equal(real[~seen[2]], made[~seen[2]]) and not torch.equal(real[seen[2]], made[seen[2]])
    assert task.judge(real) is None
    assert task_for("inpainting", {"adversarial": 0.001})[0].judge(real).shape == (8,)
