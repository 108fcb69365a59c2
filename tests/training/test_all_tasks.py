"""Every task through the engine: it trains, stops at a signal and goes on to the same weights, in 2-D and in 3-D."""

import os
import signal

import numpy as np
import pytest
from test_pretrain import equal, run, samples, weights

from medssl.pretext import PretextTask, task_class, tasks

BLOCKS = ("mae", "simmim")  # need sides that their patches divide
CASES = [(name, dims, {}) for name, task in tasks().items() for dims in task.dims]
CASES += [("inpainting", dims, {"adversarial": 0.001, "region": "around"}) for dims in (2, 3)]


def grouped(name, dims):
    """Samples of 16 images, or of 16 stacks, or exams, of as many images as the task takes together."""
    kind = task_class(name)
    group = 1 if kind.sampling == "image" else kind.group_size(kind.Settings())
    side = 32 if name in BLOCKS else 36
    if dims == 3 and name != "relative_patch":  # whose 27 tiles need more
        side = max(24, kind.smallest)
    data = samples(n=16 * group, size=side, channels=kind.channels[0], dims=dims)
    if name == "tracked_patch":  # which needs something that can be followed
        data.images = np.repeat(data.images[::group], group, axis=0)
    owner = data.table.index // group
    data.table = data.table.assign(scan=[f"s{i}" for i in owner], exam=[f"e{i}" for i in owner])
    data.table["patient"] = [f"p{i // 2}" for i in owner]
    data.table["position_mm"] = (data.table.index % group).astype(float)
    return data


@pytest.mark.parametrize(("name", "dims", "settings"), CASES)
def test_a_task_that_is_stopped_goes_on_bit_equal(tmp_path, monkeypatch, name, dims, settings) -> None:
    data = grouped(name, dims)
    options = {"settings": settings, "encoder": "small_vit" if task_class(name).needs_tokens else "small"}
    whole = run(tmp_path / "whole", name, 4, data, **options)
    after_step = task_class(name).after_step

    def stop(task: PretextTask, step: int, steps: int) -> None:
        after_step(task, step, steps)
        if step == 1 and task.encoder.training:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(task_class(name), "after_step", stop)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts", name, 4, data, **options)
    parts = run(tmp_path / "parts", name, 4, data, **options)
    assert parts.resumed_from == 2 and equal(weights(whole), weights(parts))
    assert parts.history["loss"].tolist() == whole.history["loss"].tolist()
