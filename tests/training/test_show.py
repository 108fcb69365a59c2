"""Pictures of what tasks see and answer: every task, both dims, trained and untrained, on a sheet."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_all_tasks import grouped
from test_pretrain import run, samples

from medssl.augment import RowGenerator
from medssl.config import settings_for
from medssl.encoders import create_encoder, load_checkpoint
from medssl.errors import UserError
from medssl.figures import Section, save_sheet
from medssl.pretext import task_class, tasks
from medssl.pretext.pictures import Picture, beside, laid, middle, pictures, verdict
from medssl.pretext.rotation import turned, undoing
from medssl.training import show
from medssl.training.feed import Feed
from medssl.training.plan import Request
from medssl.training.run import make_fabric
from medssl.training.sampling import Sampling, codes
from medssl.training.show import load_heads

CASES = [(name, dims) for name, task in tasks().items() for dims in task.dims]


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_every_task_draws_what_it_sees(name, dims):
    data, kind, settings = grouped(name, dims), task_class(name), settings_for("task", name, {})
    keep, patients = np.arange(len(data.images)), codes(data.table["patient"].to_numpy())
    network = create_encoder("small_vit" if kind.needs_tokens else "small", dims, data.view.channels)
    task = kind(network, settings, data.view).eval()
    task.meet(torch.from_numpy(keep), patients)
    sampling = Sampling(data.table, keep, kind.sampling, kind.group_size(settings), 4, 0)
    batch = Feed(data.images, data.table, keep, sampling, torch.device("cpu"), workers=0, hold=False)(0)
    with torch.no_grad():
        rows, again = (task.show(batch, RowGenerator(0, 0, batch.rows)) for _ in range(2))
    assert len(rows) == len(batch.rows)
    for row, other in zip(rows, again, strict=True):
        assert isinstance(row, Picture) and len(row.panels) == len(row.captions) > 1
        assert row.captions == other.captions and all(map(torch.equal, row.panels, other.panels))
        for panel in row.panels:
            assert panel.ndim == 3 and panel.shape[0] in (1, 3) and 0 <= panel.min() <= panel.max() <= 1
    shown = torch.stack([row.panels[0].mean() for row in rows])
    assert len(shown.unique()) > 1, "each row shows its own image"


class Cohort:
    """What `show` asks of a cohort, around samples of any origin."""

    modality = "XR"

    def __init__(self, data):
        self.data, self.name, self.hash, self.path = data, "toy", "h", data.path

    def scans(self):
        return self.data.table.assign(modality="XR", kind="image")

    def targets(self):
        return []

    def samples(self, view):
        assert view == self.data.view
        return self.data


def test_a_checkpoint_answers_with_its_own_heads(tmp_path):
    data = samples(n=16, size=32)
    data.images[:] = data.images // 8 + np.linspace(200, 0, 32, dtype=np.uint8)[:, None]  # bright above
    trained = run(tmp_path / "run", "rotation", 30, data)
    data = SimpleNamespace(**vars(data), path=tmp_path)
    found = show(Cohort(data), checkpoint=trained.checkpoint, rows=3)
    assert found.task == "rotation" and found.steps == 30 and len(found.rows) == 3
    untrained = show(Cohort(data), "rotation", view=data.view, rows=16)
    learned = show(Cohort(data), checkpoint=trained.checkpoint, rows=16)
    right = [sum(row.captions[2].endswith("right") for row in one.rows) for one in (untrained, learned)]
    assert right[1] > right[0], "30 steps on 16 images teach which way is up"
    assert untrained.steps == 0
    sheet = save_sheet([Section("rotation", "which way up", found.rows)], tmp_path / "sheet.png")
    with Image.open(sheet) as image:
        assert image.height > 3 * 128 and np.asarray(image).std() > 10
        assert not image.info, "nothing but pixels"
    with pytest.raises(UserError, match="png"):
        save_sheet([Section("a", "b", found.rows)], tmp_path / "sheet.jpg")


def test_panels_are_upright_and_tiles_lie_where_they_belong():
    volume = torch.zeros(1, 1, 3, 4, 4)
    volume[0, 0, 1, 0, 0] = 1  # middle slice, posterior right in RAS+: lower right on the screen
    assert middle(volume)[0, 0, 3, 3] == 1
    tiles = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(-1, -1, -1, 2, 2) / 10
    grid = laid(tiles, 3)
    assert (
        grid.shape == (1, 1, 10, 10)
        and grid[0, 0, 0, 4] == pytest.approx(0.1)
        and grid[0, 0, 4, 0] == pytest.approx(0.3)
    )
    assert grid[0, 0, 2, 0] == 1, "white between tiles"
    assert beside(tiles[:, :4], 3).shape == (1, 1, 6, 10)
    cubes = torch.arange(8.0).view(1, 8, 1, 1, 1, 1).expand(-1, -1, -1, 2, 2, 2) / 10
    slabs = laid(cubes, 2)[0, 0]  # uppermost slab (4 to 7) on the left, anterior (6, 7) on top, right (6) on the right
    assert [round(float(slabs[y, x]) * 10) for y in (0, 4) for x in (0, 4, 8, 12)] == [7, 6, 3, 2, 5, 4, 1, 0]


def test_turns_are_taken_back():
    x = torch.rand(1, 3, 3, 3)
    for turns in (4, 24):
        back = undoing(turns)
        assert all(torch.equal(turned(turned(x, k), int(back[k])), x) for k in range(turns))


def test_captions_say_what_is_right():
    rows = pictures((torch.zeros(2, 1, 4, 4), "image"), (torch.full((2, 1, 4, 4), 2.0), ["a", "b"]))
    assert [row.captions for row in rows] == [["image", "a"], ["image", "b"]] and rows[0].panels[1].max() == 1
    assert verdict(torch.tensor([0, 1]), torch.tensor([0, 0]), ["up", "down"]) == ["up: right", "down: wrong"]


def test_all_weights_of_a_task_come_back(tmp_path):
    """Parameters that a task holds itself (mae's blank patch) are in the checkpoint, and what is missing is said."""
    data = samples(n=16, size=32)
    trained = run(tmp_path / "run", "mae", 2, data, encoder="small_vit")
    loaded = load_checkpoint(trained.checkpoint)
    request = Request(data, "mae", {}, frozenset(), "", {"batch": 4, "encoder": "small_vit", "seed": 1}, make_fabric)
    task = request.fresh_task()
    load_heads(task, loaded.heads, trained.checkpoint)
    own = {key: value for key, value in task.state_dict().items() if not key.startswith("encoder.")}
    held = {f"{n}.{k}".removeprefix("own."): v for n, head in loaded.heads.items() for k, v in head.items()}
    assert own.keys() == held.keys() and all(torch.equal(own[key], held[key]) for key in own)
    del loaded.heads["own"]
    with pytest.raises(UserError, match="'own' of 'mae'"):
        load_heads(task, loaded.heads, trained.checkpoint)
