"""Strategies train wholly on the job's device, tried on a pretended GPU: memory of the CPU that the rest of it may not
touch. Like a real one it refuses to calculate with tensors of both, and to be read without `.cpu()`."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medssl.pretext.simclr import projection_head
from medssl.transfer import OtherLabels, strategies, strategy, target_kind, unlabeled

GPU = "cpu:0"  # torch takes it for the CPU that it is, and yet for another device than `cpu`
SHORT = {"min_steps": 5, "epochs": 0.1, "batch": 4}
POOL = {**SHORT, "unlabeled": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["finetune", "from_projection", "gradual", "head_first", "sla"], SHORT),
    **dict.fromkeys(["fixmatch", "mean_teacher", "s4l"], POOL),
    "distill": {**POOL, "labeled": 0.5, "teacher": {"name": "finetune", **SHORT}},
    "joint": {**SHORT, "others": 4},
    "pseudo_labels": {"predictor": {"name": "finetune", **SHORT}, "threshold": 0.5},
}
VARIANTS = [
    *SETTINGS.items(),
    ("distill", {**POOL, "teacher": "prototypes", "student": "small_narrow"}),
    ("s4l", {**POOL, "task": "exemplar"}),
    ("sla", {**SHORT, "predictor": "distilled"}),
]
CROSSING = {"_to_copy", "copy_", "index", "index_put_", "set_", "_index_put_impl_"}  # a GPU is indexed from the CPU too


class Memory:
    """Which storages lie on the pretended GPU; they are kept, so that no other one gets the address of one of them."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.UntypedStorage] = {}

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.kept

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.kept[storage._cdata] = storage


class Operations(TorchDispatchMode):
    """Results lie where their inputs do, or where they were asked for."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t in self.memory for t in tensors]
        scalar = [t.ndim == 0 for t in tensors]
        if name not in CROSSING and any(there) and not all(t or s for t, s in zip(there, scalar, strict=True)):
            raise RuntimeError(f"{name} was given tensors on the GPU and on the CPU")
        asked = kwargs.get("device")
        result = function(*args, **kwargs)
        on = any(there) if asked is None else asked == torch.device(GPU)
        if name in ("copy_", "set_", "index", "index_put_", "_index_put_impl_") and tensors:
            on = there[0]
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and on:
                self.memory.add(tensor)
        return result


class Calls(TorchFunctionMode):
    """What a tensor on the pretended GPU says of itself, and how it leaves."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.to:
            return self.moved(*args, **(kwargs or {}))
        if args and isinstance(args[0], torch.Tensor) and args[0] in self.memory:
            if getattr(function, "__self__", None) is torch.Tensor.device:
                return torch.device(GPU)
            if function is torch.Tensor.numpy:
                raise TypeError("can't convert a tensor on the GPU to numpy")
            if function is torch.Tensor.cpu:
                return torch.empty_like(args[0], device="cpu").copy_(args[0])
            if function is torch.Tensor.__deepcopy__:
                result = function(*args)
                self.memory.add(result)
                return result
        return function(*args, **(kwargs or {}))

    def moved(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`to` a device, or to another type where it is, or to where another tensor is."""
        result = tensor.to(*args, **kwargs)
        asked = kwargs.get("device", args[0] if args else None)
        if isinstance(asked, torch.Tensor):
            on = asked in self.memory
        else:
            stays = asked is None or isinstance(asked, torch.dtype)
            on = tensor in self.memory if stays else torch.device(asked) == torch.device(GPU)
        if on:
            self.memory.add(result)
        return result


@pytest.fixture
def gpu():
    memory = Memory()
    with Operations(memory), Calls(memory):
        yield memory


def test_the_pretended_gpu_refuses_what_a_real_one_does(gpu):
    layer, x = torch.nn.Linear(3, 2).to(GPU), torch.ones(4, 3, device=GPU)
    layer(x).sum().backward()
    assert all(p in gpu and p.grad in gpu for p in layer.parameters()) and torch.arange(3, device=x.device) in gpu
    assert torch.ones(2) not in gpu and layer(x).detach().cpu().numpy().shape == (4, 2)
    for mixed in (lambda: layer(torch.ones(4, 3)), lambda: x + torch.ones(3)):
        with pytest.raises(RuntimeError, match="on the GPU and on the CPU"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()


def test_every_strategy_that_trains_is_tried():
    assert {name for name in strategies() if not strategy(name).frozen} == set(SETTINGS)


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_training_stays_on_the_device(problem, gpu, name, settings):
    own = problem()
    others = OtherLabels(None, own.images, np.arange(40), np.arange(40) % 2, "OT")
    heads = {"projection": projection_head(256, 48, 32).state_dict()}
    changes = {"others": others, "heads": lambda: heads, "target": own.target.weighed(own.truth)}
    given = problem(device=GPU, **changes)
    fitted = strategy(name, settings).fit(given)
    assert fitted.encoder is not None and all(tensor in gpu for tensor in fitted.encoder.state_dict().values())
    logits = unlabeled.predict(given, fitted, np.arange(30, 60))
    on_the_cpu = strategy(name, settings).fit(problem(**changes))
    assert not any(tensor in gpu for tensor in on_the_cpu.encoder.state_dict().values())
    np.testing.assert_array_equal(logits, unlabeled.predict(given, on_the_cpu, np.arange(30, 60)))


@pytest.mark.parametrize("imbalance", ["balanced", "focal"])
@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("classification", ["no", "yes"]),
        ("multilabel", ["effusion", "effusion|nodule", "no finding"]),
        ("ordinal", ["1", "2", "3"]),
    ],
)
def test_losses_stay_on_the_device(gpu, kind, labels, imbalance):
    target = target_kind(kind, labels, {"imbalance": imbalance})
    truth = target.encode(labels)
    logits = torch.zeros(len(labels), target.outputs, device=GPU)
    assert target.taught(truth).loss(logits, torch.as_tensor(truth).to(GPU)) in gpu


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_loss_of_a_number_stays_on_the_device(gpu, loss):
    target = target_kind("regression", ["1", "2", "4"], {"loss": loss})
    assert target.loss(torch.zeros(3, 1, device=GPU), torch.as_tensor(target.encode(["1", "2", "4"])).to(GPU)) in gpu
