"""Batches in parts and over processes are the whole batch, or are refused."""

import copy

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from medssl import config
from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.pretext import Batch, PretextTask, task_class, tasks
from medssl.training.estimate import Estimate, out_of_memory
from medssl.training.gradients import gradients, refuse_parts
from medssl.training.norms import SharedBatchNorm, share_norms

ROWS, SIZE = 8, 16


def make(name, encoder="small_gn", size=SIZE):
    kind = task_class(name)
    encoder = "small_vit" if kind.needs_tokens else encoder
    settings = config.settings_for("task", name, {"cells": 4} if name == "inpainting" and size == SIZE else {})
    torch.manual_seed(0)
    channels = kind.channels[0]
    return kind(create_encoder(encoder, 2, channels), settings, View(size=size, channels=channels)).train()


def whole_batch(name, size=SIZE):
    """Images, or stacks of slices 1 mm apart, or exams, as the task takes them."""
    kind, ids = task_class(name), torch.arange(ROWS)
    group = () if kind.sampling == "image" else (kind.group_size(kind.Settings()),)
    images = torch.rand(ROWS, *group, kind.channels[0], size, size, generator=torch.Generator().manual_seed(1))
    index = torch.arange(images[..., 0, 0, 0].numel()).view(ROWS, *group)
    scan = index if kind.sampling == "exam" else (index // index.shape[-1] if group else index)
    position = torch.arange(float(group[0])).expand(ROWS, -1) if group else torch.zeros(ROWS)
    return Batch(images, index, scan, ids, ids, position, ids)


def grads(task):
    return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])


def one_step(name, parts, encoder="small_gn", size=SIZE):
    task, fabric = make(name, encoder, size), Fabric(accelerator="cpu", devices=1)
    module = fabric.setup(task)
    loss, metrics = gradients(
        fabric, module, task, whole_batch(name, size), RowGenerator(0, 3, torch.arange(ROWS)), parts
    )
    return float(loss), {k: float(v) for k, v in metrics.items()}, grads(task)


@pytest.mark.parametrize("name", ["simclr", "rotation", "inpainting"])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(name, parts):
    (loss, metrics, whole), (again, again_metrics, in_parts) = one_step(name, 1), one_step(name, parts)
    assert again == pytest.approx(loss, rel=1e-5) and again_metrics == pytest.approx(metrics, rel=1e-4)
    assert torch.allclose(whole, in_parts, atol=1e-5 * float(whole.abs().max()) + 1e-7)
    assert whole.abs().max() > 1e-4


@pytest.mark.parametrize("name", sorted(tasks()))
def test_every_task_in_parts_is_the_whole_or_is_refused(name):
    """Also what an out-of-memory error advises: parts only where they are the same mathematics."""
    task = make(name, size=64)
    guess = Estimate(fixed=0, held=((0, 2**30),), seconds_per_image=1)
    advice = str(out_of_memory(guess, task, ROWS, 1, free=8 * 2**30))
    assert "set batch=4 " in advice
    kind, two_steps = type(task), type(task).inputs is not PretextTask.inputs
    if (task.compares and two_steps) or (task.compares is False and not batch_norms(task)):
        (loss, metrics, whole), (again, again_metrics, parts) = (one_step(name, n, size=64) for n in (1, 2))
        assert again == pytest.approx(loss, rel=1e-4) and again_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-6)
        assert torch.allclose(whole, parts, atol=1e-4 * float(whole.abs().max()) + 1e-7)
        assert "accumulate=2" in advice
    else:
        assert kind.compares is not None, f"{name} must say whether its loss compares the images of a batch"
        with pytest.raises(UserError, match="a part has too few" if task.compares else "its heads have batch norm"):
            refuse_parts(task, ROWS, 2)
        assert "accumulate" not in advice


def batch_norms(module):
    return any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in module.modules())


def test_what_is_not_the_same_mathematics_is_refused():
    refuse_parts(make("simclr"), 8, 4)
    refuse_parts(make("simclr", "small"), 8, 1)
    with pytest.raises(UserError, match="batch normalisation"):
        refuse_parts(make("simclr", "small"), 8, 2)
    with pytest.raises(UserError, match="batch normalisation"):
        refuse_parts(make("inpainting", "small"), 8, 2)
    with pytest.raises(UserError, match="equal parts"):
        refuse_parts(make("simclr"), 8, 3)
    plain = make("rotation")
    for value, says in ((None, "does not say"), (True, "compares the images")):
        plain.compares = value
        with pytest.raises(UserError, match=says):
            refuse_parts(plain, 8, 2)


def test_layers_that_draw_draw_the_same_in_both_passes_of_a_cached_batch():
    """As a transformer with stochastic depth does, which has no batch norm to be refused for."""
    task, found = make("simclr"), []
    drop = torch.nn.Dropout(0.3)
    embed = task.encoder.embed
    task.encoder.embed = lambda x: found.append(drop(embed(x))) or found[-1]
    torch.manual_seed(5)
    batch, fabric = whole_batch("simclr"), Fabric(accelerator="cpu", devices=1)
    module = fabric.setup_module(task)
    gradients(fabric, module, task, batch, RowGenerator(0, 3, batch.rows), 2)
    first, second = found[:2], found[2:]
    assert len(second) == 2 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(found[0] == 0, found[1] == 0), "and not the same in all parts"


def test_simclr_gradients_equal_a_naive_loss():
    """The same network, with the loss written as the paper's double loop."""
    task = make("simclr")
    batch, draws = whole_batch("simclr"), RowGenerator(0, 3, torch.arange(ROWS))
    z = torch.nn.functional.normalize(task.projection(task.embed(task.inputs(batch, draws))), dim=1)
    n, total = len(z), 0.0
    for i in range(n):
        j = (i + n // 2) % n
        others = torch.stack([z[i] @ z[k] / 0.2 for k in range(n) if k != i])
        total = total + torch.logsumexp(others, 0) - z[i] @ z[j] / 0.2
    (total / n).backward()
    _, _, ours = one_step("simclr", 1)
    assert torch.allclose(ours, grads(task), atol=1e-5 * float(ours.abs().max()) + 1e-7)


def _process(rank, folder, encoder, parts):
    import os

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    task = share_norms(make("simclr", encoder), torch.device("cpu"))
    module = torch.nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
    fabric = _Gloo(module)
    own = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    part = whole_batch("simclr").part(own)
    loss, metrics = gradients(fabric, module, task, part, RowGenerator(0, 3, part.rows), parts)
    stats = {k: v for k, v in task.state_dict().items() if "running" in k}
    torch.save((float(loss), float(metrics["accuracy"]), grads(task), stats), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


class _Gloo:
    """What `gradients` needs of Fabric, on a process group that this test made itself."""

    def __init__(self, module):
        self.module = module

    def backward(self, loss):
        loss.backward()

    def autocast(self):
        return torch.autocast("cpu", enabled=False)

    def no_backward_sync(self, module, enabled=True):
        import contextlib

        return module.no_sync() if enabled else contextlib.nullcontext()

    def all_reduce(self, x, reduce_op):
        torch.distributed.all_reduce(x)
        return x / 2


@pytest.mark.parametrize(("encoder", "parts"), [("small_gn", 1), ("small_gn", 2), ("small", 1)])
def test_two_processes_equal_one_with_the_whole_batch(tmp_path, encoder, parts):
    torch.multiprocessing.spawn(_process, (str(tmp_path), encoder, parts), nprocs=2)
    found = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    loss, metrics, whole = one_step("simclr", 1, encoder)
    assert sum(f[0] for f in found) / 2 == pytest.approx(loss, rel=1e-5)
    assert sum(f[1] for f in found) / 2 == pytest.approx(metrics["accuracy"], abs=1e-6)
    for f in found:
        assert torch.allclose(f[2], whole, atol=1e-4 * float(whole.abs().max()) + 1e-7)
    task = make("simclr", encoder)
    task(whole_batch("simclr"), RowGenerator(0, 3, torch.arange(ROWS)))
    alone = task.state_dict()
    assert all(torch.allclose(v, alone[k], atol=1e-5) for k, v in found[0][3].items())


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 4), (6, 5, 3, 4, 4)])
def test_a_shared_norm_is_torchs_own_in_one_process(shape):
    kind = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}[len(shape)]
    own = kind(5)
    shared = share_norms(torch.nn.Sequential(copy.deepcopy(own)), torch.device("cpu"))[0]
    x = torch.randn(shape)
    assert isinstance(shared, SharedBatchNorm) and torch.equal(shared(x), own(x))
    assert shared.state_dict().keys() == own.state_dict().keys()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_norm_that_holds_its_activation_keeps_it(device):
    """As in EfficientNet of timm, whose ImageNet weights come with a package."""
    own = create_encoder("tf_efficientnet_lite0", weights="imagenet").eval()
    shared = share_norms(copy.deepcopy(own), torch.device(device)).eval()
    assert len([m for m in shared.modules() if isinstance(m, (SharedBatchNorm, torch.nn.SyncBatchNorm))]) > 40
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(shared.embed(x), own.embed(x), atol=1e-6)
    assert shared.state_dict().keys() == own.state_dict().keys()


def test_sync_batch_norm_is_chosen_on_cuda():
    task = share_norms(make("simclr", "small"), torch.device("cuda"))
    kinds = {type(m) for m in task.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    assert kinds == {torch.nn.SyncBatchNorm}


def test_whole_runs_over_two_processes_equal_one(tmp_path):
    """`fit` under torchrun: same views, same order, same weights within rounding."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_pretrain import run; "
        "run(sys.argv[2], steps=3, encoder='small_gn', precision='32')"
    )
    script = tmp_path / "train.py"
    script.write_text(code)
    here = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for start, name in ((torchrun, "two"), ([sys.executable], "one")):
        subprocess.run([*start, str(script), here, str(tmp_path / name)], check=True, env=environment, timeout=300)
    from safetensors.torch import load_file

    two, one = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("two", "one"))
    assert two.keys() == one.keys()
    apart = np.concatenate([(one[key].float() - two[key].float()).abs().numpy().ravel() for key in one])
    # AdamW steps by the sign of a gradient that is all rounding, so a few of 1.4 million weights lie a step apart.
    assert np.mean(apart > 2e-4) < 1e-3 and apart.max() < 5e-3, (np.mean(apart > 2e-4), apart.max())
