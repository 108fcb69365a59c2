"""Every task trains wholly on the device of the run, tried on a pretended GPU."""

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import SingleDeviceStrategy
from pretended_gpu import GPU
from test_all_tasks import CASES, grouped
from test_pretrain import run

from medssl.pretext import task_class


def test_the_pretended_gpu_refuses_what_a_real_one_does(gpu):
    layer, x = torch.nn.Linear(3, 2).to(GPU), torch.ones(4, 3, device=GPU)
    layer(x).sum().backward()
    assert all(p in gpu and p.grad in gpu for p in layer.parameters()) and torch.arange(3, device=x.device) in gpu
    assert torch.ones(2) not in gpu and layer(x).detach().cpu().numpy().shape == (4, 2)
    here, there = torch.arange(2), torch.arange(2, device=GPU)
    assert x[here] in gpu and x[there] in gpu
    for mixed in (lambda: layer(torch.ones(4, 3)), lambda: x + torch.ones(3), lambda: torch.ones(4)[there]):
        with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()


def one_gpu(precision: str) -> Fabric:
    """As `medssl.training.run.make_fabric` makes it."""
    fabric = Fabric(strategy=SingleDeviceStrategy(device=torch.device(GPU)), precision="32-true")
    fabric.launch()
    return fabric


@pytest.mark.parametrize(
    ("name", "dims", "settings"), [case for case in CASES if case[1] == task_class(case[0]).dims[0]]
)
def test_training_stays_on_the_device(tmp_path, monkeypatch, gpu, name, dims, settings):
    monkeypatch.setattr("medssl.training.run.make_fabric", one_gpu)
    options = {"settings": settings, "encoder": "small_vit" if task_class(name).needs_tokens else "small"}
    run(tmp_path / "gpu", name, 1, grouped(name, dims), precision="32", **options)
    assert gpu.kept
