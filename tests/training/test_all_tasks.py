"""Every task through the engine: it trains, stops at a signal and goes on to the same weights, in 2-D and in 3-D."""

import os
import signal

import pytest
from test_pretrain import equal, run, samples, weights

from medssl.pretext import PretextTask, task_class, tasks

CASES = [(name, dims, {}) for name, task in tasks().items() for dims in task.dims]
CASES += [("inpainting", dims, {"adversarial": 0.001, "region": "around"}) for dims in (2, 3)]


def grouped(name, dims, size=36):
    """Samples of 16 images, or of 16 stacks, or exams, of as many images as the task takes together."""
    kind = task_class(name)
    group = 1 if kind.sampling == "image" else kind.group_size(kind.Settings())
    data = samples(n=16 * group, size=size, dims=dims)
    owner = data.table.index // group
    data.table = data.table.assign(scan=[f"s{i}" for i in owner], exam=[f"e{i}" for i in owner])
    data.table["patient"] = [f"p{i // 2}" for i in owner]
    data.table["position_mm"] = (data.table.index % group).astype(float)
    return data


@pytest.mark.parametrize(("name", "dims", "settings"), CASES)
def test_a_task_that_is_stopped_goes_on_bit_equal(tmp_path, monkeypatch, name, dims, settings) -> None:
    data = grouped(name, dims)
    whole = run(tmp_path / "whole", name, 4, data, settings=settings)
    after_step = task_class(name).after_step

    def stop(task: PretextTask, step: int, steps: int) -> None:
        after_step(task, step, steps)
        if step == 1 and task.encoder.training:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(task_class(name), "after_step", stop)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts", name, 4, data, settings=settings)
    parts = run(tmp_path / "parts", name, 4, data, settings=settings)
    assert parts.resumed_from == 2 and equal(weights(whole), weights(parts))
    assert parts.history["loss"].tolist() == whole.history["loss"].tolist()
