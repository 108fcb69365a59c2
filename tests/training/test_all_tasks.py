"""Every task through the engine: it trains, stops at a signal and goes on to the same weights, in 2-D and in 3-D."""

import os
import signal

import pytest
from test_pretrain import equal, run, samples, weights

from medssl.pretext import PretextTask, task_class, tasks

CASES = [(name, dims) for name, task in tasks().items() for dims in task.dims]


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_a_task_that_is_stopped_goes_on_bit_equal(tmp_path, monkeypatch, name, dims) -> None:
    data = samples(n=16, size=36, channels=task_class(name).channels[0], dims=dims)
    whole = run(tmp_path / "whole", name, 4, data)
    after_step = task_class(name).after_step

    def stop(task: PretextTask, step: int, steps: int) -> None:
        after_step(task, step, steps)
        if step == 1 and task.encoder.training:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(task_class(name), "after_step", stop)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts", name, 4, data)
    parts = run(tmp_path / "parts", name, 4, data)
    assert parts.resumed_from == 2 and equal(weights(whole), weights(parts))
    assert parts.history["loss"].tolist() == whole.history["loss"].tolist()
