"""Order in a stack of slices: which slices are asked for, by mm; what the questions are; and shortcuts, opened."""

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from test_tasks import STILL, learn, make

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.errors import UserError
from medssl.pretext import Batch
from medssl.pretext.slice_sorting import ORDERS
from medssl.pretext.stacks import chain, near_and_far, widths

NAN = float("nan")
NAMES = ["slice_sorting", "slice_verification", "slice_contrast"]
UNEVEN = [3.0, NAN, 0.0, 1.0, 1.0, 9.0, 2.0, 5.0]  # neither in order nor even, with a tie and a slice without a place


def rows(n, step=0):
    return RowGenerator(0, step, torch.arange(n))


def stacks(images, position):
    """(N, K, C, H, W) and mm of each slice, (N, K)."""
    n, k = images.shape[:2]
    ids = torch.arange(n)
    return Batch(images, ids[:, None] * k + torch.arange(k), ids[:, None].expand(n, k), ids, ids, position, ids)


def numbered(n=64, k=16, size=32, spacing=1.0):
    """Slices whose mean brightness is their number, in hundredths; every other stack is turned over."""
    number = torch.arange(float(k)).expand(n, k).clone()
    number[1::2] = number[1::2].flip(1)
    board = 0.02 * (1 - 2 * ((torch.arange(size)[:, None] + torch.arange(size)) % 2))
    return stacks(0.3 + 0.01 * number[..., None, None, None] + board, spacing * number)


def numbers(slices):
    return ((slices.flatten(2).mean(2) - 0.3) * 100).round().long()


def drifting(n, step, drift=0.35, k=8, size=16):
    """Noise without any order in it, but for a brightness that rises or falls along the stack, 4 mm a slice."""
    g = torch.Generator().manual_seed(step)
    texture = F.interpolate(torch.randn(n * k, 1, size // 4, size // 4, generator=g), size=(size, size))
    slope = 1 - 2.0 * torch.randint(2, (n, 1), generator=g)
    shade = drift * slope * torch.linspace(-1, 1, k)
    images = (0.5 + 0.05 * texture.view(n, k, 1, size, size) + shade[..., None, None, None]).clamp(0, 1)
    return stacks(images, 4.0 * torch.arange(k).expand(n, k))


def cells(position, known):
    """Slow reference: mm that are nearer to a slice than to any other one; an end reaches as far out as in."""
    order = sorted((p, k) for k, p in enumerate(position) if known[k])
    out = [0.0] * len(position)
    for at, (place, k) in enumerate(order):
        before = place - order[at - 1][0] if at else None
        after = order[at + 1][0] - place if at + 1 < len(order) else None
        before, after = after if before is None else before, before if after is None else after
        out[k] = ((before or 0) + (after or 0)) / 2
    return out


def expected_chains(position, known, length, gap):
    """Slow reference: every choice, and how often it should be made."""
    width = cells(position, known)
    ways = {}
    for choice in itertools.permutations([k for k in range(len(position)) if known[k]], length):
        steps = [position[b] - position[a] for a, b in itertools.pairwise(choice)]
        if all(s > 0 and gap[0] <= s <= gap[1] for s in steps):
            ways[choice] = math.prod(width[k] for k in choice)
    total = sum(ways.values())
    return {choice: way / total for choice, way in ways.items() if way}


def shares(places):
    return {k: v / len(places) for k, v in Counter(map(tuple, places.tolist())).items()}


@pytest.mark.parametrize(("length", "gap"), [(2, (1.0, 4.0)), (4, (1.0, 4.0)), (3, (0.0, 9.0))])
def test_slices_are_chosen_as_by_trying_every_choice(length, gap):
    known = [True, False, True, True, True, True, True, True]
    position, n = torch.tensor(UNEVEN).expand(5000, -1), 5000
    places, found = chain(position, torch.tensor(known).expand(n, -1), length, gap, rows(n))
    assert found.all()
    expected, seen = expected_chains(UNEVEN, known, length, gap), shares(places)
    assert seen.keys() <= expected.keys()
    for choice, share in expected.items():
        assert seen.get(choice, 0.0) == pytest.approx(share, abs=4.5 * math.sqrt(share / n))


def test_near_and_far_are_chosen_as_by_trying_every_choice():
    known, n = [True, False] + [True] * 6, 5000
    width, position = cells(UNEVEN, known), torch.tensor(UNEVEN).expand(n, -1)
    places, found = near_and_far(position, torch.tensor(known).expand(n, -1), 2.0, 4.0, rows(n))
    assert found.all()
    there = [k for k in range(8) if known[k]]
    apart = {(a, b): abs(UNEVEN[a] - UNEVEN[b]) for a in there for b in there}
    near = {a: {b: width[b] for b in there if b != a and apart[a, b] <= 2} for a in there}
    far = {a: {b: width[b] for b in there if apart[a, b] >= 4} for a in there}
    anchors = {a: width[a] for a in there if sum(near[a].values()) and sum(far[a].values())}
    part = lambda weights, k: weights[k] / sum(weights.values())  # noqa: E731
    expected = {
        (a, p, f): part(anchors, a) * part(near[a], p) * part(far[a], f)
        for a in anchors
        for p in near[a]
        for f in far[a]
    }
    seen = shares(places)
    assert seen.keys() <= {choice for choice, share in expected.items() if share}
    for choice, share in expected.items():
        assert seen.get(choice, 0.0) == pytest.approx(share, abs=4.5 * math.sqrt(share / n) + 1e-9)


def test_widths_are_the_mm_nearest_to_each_slice():
    place = torch.tensor([[0.0, 1, 1, 4, NAN, NAN], [7, NAN, NAN, NAN, NAN, NAN]])
    assert torch.equal(
        widths(place, place.isfinite()), torch.tensor([[1, 0.5, 1.5, 3, 0, 0], [0.0] * 6], dtype=torch.float64)
    )


def test_uneven_spacing_tells_nothing():
    """Thin slices below, thick ones above: by number, nine pairs of ten would begin in the lower quarter."""
    position = torch.cat([torch.arange(0, 10, 0.5), torch.arange(10.0, 40, 3)])
    n = 8000
    places, _ = chain(position.expand(n, -1), torch.ones(n, 30, dtype=torch.bool), 2, (1.5, 10.5), rows(n))
    first, second = (position[places[:, k]] for k in range(2))
    assert float((first < 10).float().mean()) == pytest.approx(90 / 306, abs=0.03), "as with slices everywhere"
    thin, thick = ((second - first)[kind].mean() for kind in (first < 8, (first > 12) & (first < 30)))
    assert float(thin) == pytest.approx(float(thick), abs=0.3), "gaps are as wide where slices are thin"


def test_sorting_asks_for_the_order_that_it_laid():
    task = make("slice_sorting", STILL | {"normalise": False, "gap": (2, 5)})
    batch = numbered()
    slices, labels, found = task.puzzle(batch, rows(64))
    assert found.all() and len(ORDERS) == 12 and len(set(ORDERS) | {o[::-1] for o in ORDERS}) == 24
    mirrored = 0
    for seen, label in zip(numbers(slices).tolist(), labels.tolist(), strict=True):
        ascending = sorted(seen)
        assert all(2 <= b - a <= 5 for a, b in itertools.pairwise(ascending))
        order = tuple(ascending.index(number) for number in seen)
        assert order in (ORDERS[label], ORDERS[label][::-1]), "a stack read from its end is the same stack"
        mirrored += order != ORDERS[label]
    assert 16 < mirrored < 48


def test_verification_asks_whether_the_middle_lies_between():
    task = make("slice_verification", STILL | {"normalise": False, "gap": (2, 5), "wrong": 0.6})
    slices, wrong, found = task.puzzle(numbered(400), rows(400))
    first, middle, last = numbers(slices).unbind(1)
    between = (middle > torch.minimum(first, last)) & (middle < torch.maximum(first, last))
    assert found.all() and torch.equal(between, wrong == 0)
    assert float(wrong.float().mean()) == pytest.approx(0.6, abs=0.08)
    assert float((first < last).float().mean()) == pytest.approx(0.5, abs=0.08), "either direction"
    outer = (first - last).abs().float()
    assert outer.min() >= 4 and outer.max() <= 10
    assert float(outer[wrong == 1].mean()) == pytest.approx(float(outer[wrong == 0].mean()), abs=0.4), "no leak"


def test_contrast_asks_which_slice_is_near():
    task = make("slice_contrast", STILL | {"normalise": False, "near": 2, "far": 6})
    slices, found = task.puzzle(numbered(), rows(64))
    anchor, near, far = numbers(slices).unbind(1)
    assert found.all() and (anchor != near).all()
    assert ((anchor - near).abs() <= 2).all() and ((anchor - far).abs() >= 6).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_without_an_answer_counts_as_unlearned(name):
    """Rows whose slices have no place give no gradient; the loss is a mean of rows, whatever part is looked at."""
    task = make(name, STILL | {"gap": (3, 6)} if name != "slice_contrast" else STILL)
    batch = numbered(8)
    batch.position[5:] = NAN
    with torch.no_grad():
        whole = task.eval()(batch, rows(8))[0]
        parts = [task(batch.part(slice(a, a + 4)), rows(8).part(slice(a, a + 4)))[0] for a in (0, 4)]
    assert float(whole) == pytest.approx(sum(map(float, parts)) / 2, rel=1e-4)
    floor = task.floor(batch, rows(8))["loss"]
    loss, metrics = task(batch.part(slice(5, 8)), rows(8).part(slice(5, 8)))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(floor) and float(metrics["found"]) == 0
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_stacks_that_do_not_do_are_refused_before_the_first_step(name):
    task = make(name)
    batch = numbered(4)
    batch.position[:] = NAN
    with pytest.raises(UserError, match=r"no slice has one(.|\n)*geometry"):
        task.floor(batch, rows(4))
    with pytest.raises(UserError, match=rf"'{name}' needs .*mm.* 16 slices in a row reach 3 mm(.|\n)*window"):
        task.floor(numbered(4, spacing=0.2), rows(4))
    blank = numbered(4)
    blank.images[:] = 0.25
    with pytest.raises(UserError, match="blank"):
        task.floor(blank, rows(4))


def test_settings_that_contradict_are_refused():
    for name, settings in (
        ("slice_contrast", {"near": 8, "far": 8}),
        ("slice_sorting", {"gap": (5, 4)}),
        ("slice_verification", {"gap": (5, 4)}),
    ):
        with pytest.raises(UserError, match=name):
            make(name, settings)


@pytest.mark.parametrize("name", NAMES)
def test_blank_slices_are_never_taken(name):
    """They lie at the ends of a stack, and would tell where that is."""
    batch = numbered(64)
    batch.images[:, :3] = 0.9
    task = make(name, STILL | {"normalise": False} | ({"near": 2, "far": 6} if name == "slice_contrast" else {}))
    assert float(task.puzzle(batch, rows(64))[0].flatten(2).mean(2).max()) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_every_slice_has_a_place_a_brightness_and_a_contrast_of_its_own(name):
    task = make(name, {"preset": "MR"})
    size = 32
    ramp = torch.linspace(0.2, 0.8, size).expand(8, 16, 1, size, size).contiguous()
    slices = task.puzzle(stacks(ramp, torch.arange(16.0).expand(8, 16)), rows(8))[0]
    flat = slices.flatten(2)
    apart = (flat[:, 0] - flat[:, 1]).abs().amax(1)
    assert (apart > 0.02).all(), "equal slices look different"
    assert len(flat.mean(2).unique()) == flat.mean(2).numel() and 0.3 <= flat.mean(2).min() <= flat.mean(2).max() <= 0.5


def test_colours_that_drift_are_not_seen():
    still = {"views": STILL["views"] | {"colour": 0, "gray": 0}, "normalise": False}
    task = make("slice_sorting", still, View(size=32, channels=3), in_channels=3)
    batch = numbered(64)
    batch.images = torch.cat([batch.images + shade for shade in (0.0, 0.2, 0.4)], 2)
    slices = task.puzzle(batch, rows(64))[0]
    assert torch.equal(slices[:, :, 0], slices[:, :, 1]) and torch.equal(slices[:, :, 0], slices[:, :, 2])
    level = (slices.flatten(2).mean(2) - 0.29).div(0.2).floor().long()
    assert (level == level[:, :1]).all() and len(level.unique()) == 3, "one channel a stack, drawn"


@pytest.mark.parametrize("name", NAMES)
def test_brightness_that_drifts_gives_the_order_away_where_it_is_let_in(name):
    """Opened, a stack of noise is put in order; closed, it is not. There is nothing in it to learn a feature from."""
    own = {"near": 4, "far": 16} if name == "slice_contrast" else {"gap": (4, 12)}
    batches = {step: drifting(64, step) for step in range(40)}
    accuracy = {}
    for normalise in (False, True):
        task = make(name, STILL | {"window": 8, "normalise": normalise} | own, View(size=16))
        accuracy[normalise] = learn(task, batches.__getitem__, 40, 3e-3)
    chance = {"slice_sorting": 1 / 12, "slice_verification": 0.5, "slice_contrast": 0.5}[name]
    assert accuracy[False] > chance + 0.1, f"opened: {accuracy}"
    assert accuracy[True] < chance + 0.07, f"closed: {accuracy}"


def test_micle_pairs_the_images_of_an_exam_and_spares_the_patient():
    task = make("micle", STILL)
    images = torch.rand(6, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ids, patient = torch.arange(6), torch.tensor([0, 0, 1, 2, 3, 3])
    batch = Batch(images, ids[:, None].expand(6, 2), ids[:, None].expand(6, 2), ids, patient, torch.zeros(6, 2), ids)
    x = task.inputs(batch, rows(6))
    assert torch.equal(x, torch.cat([images[:, 0], images[:, 1]]))
    z = F.normalize(task.projection(task.embed(x)).detach(), dim=1)
    loss, metrics = task.loss_of(task.embed(x), batch, rows(6))
    total, hits = 0.0, 0
    for i in range(12):
        other = (i + 6) % 12
        rivals = [j for j in range(12) if j == other or patient[j % 6] != patient[i % 6]]
        scores = torch.tensor([float(z[i] @ z[j]) / 0.2 for j in rivals])
        total += float(scores.logsumexp(0) - scores[rivals.index(other)])
        hits += rivals[int(scores.argmax())] == other
    assert float(loss) == pytest.approx(total / 12, rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(hits / 12)
    with pytest.raises(UserError, match="one patient"):
        task.meet(ids, torch.zeros(6, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "panels", "said"),
    [
        ("slice_sorting", 4, "is 1, said"),
        ("slice_contrast", 3, "distance"),
        ("slice_verification", 3, "said:"),
        ("micle", 2, "view 1"),
    ],
)
def test_pictures_show_the_question_and_the_answer(name, panels, said):
    task, batch = make(name).eval(), numbered(6)
    batch.position[0] = NAN
    if name == "micle":
        batch.images = batch.images[:, :2]
    with torch.no_grad():
        shown = task.show(batch, rows(6))
    assert len(shown) == 6 and all(len(p.panels) == len(p.captions) >= panels for p in shown)
    assert any(said in text for text in shown[1].captions)
    assert name == "micle" or "no such slices here" in shown[0].captions
