"""A pretended GPU: memory of the CPU that the rest of it may not touch.

Like a real one it refuses to calculate with tensors of both, and to be read without `.cpu()`. Values are those of the
CPU. It says nothing of speed, memory, or what a GPU's kernels lack.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = "cpu:0"  # torch takes it for the CPU that it is, and yet for another device than `cpu`
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # a GPU may be from the CPU, and not the other way
WRITING = {"copy_", "set_", *INDEXED}  # what is first says where it lies
CROSSING = {"_to_copy", *WRITING}


class Memory:
    """Which storages lie on the pretended GPU; they are kept, so that no other one gets the address of one of them.

    Attributes:
        inside: whether a function of torch is at work on tensors that lie there, so that what it makes does too.
    """

    def __init__(self) -> None:
        self.kept: dict[int, torch.UntypedStorage] = {}
        self.inside = False

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.kept

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.kept[storage._cdata] = storage

    def drop(self, tensor: torch.Tensor) -> None:
        del self.kept[tensor.untyped_storage()._cdata]


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
        strange = [t for t, on in zip(tensors, there, strict=True) if not on and t.ndim]  # scalars may lie anywhere
        mixed = any(there) and strange and name not in CROSSING
        if mixed or (name in INDEXED and any(there) and not there[0]):
            raise RuntimeError(f"{name} was given tensors on the GPU and on the CPU")
        result = function(*args, **kwargs)
        on = any(there) or kwargs.get("device") == torch.device(GPU) or (not tensors and self.memory.inside)
        if name in WRITING:
            on = there[0]
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and on:
                self.memory.add(tensor)
        return result


class Calls(TorchFunctionMode):
    """What a tensor on the pretended GPU says of itself, and how tensors come there and leave."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.to:
            return self.moved(*args, **kwargs)
        if function is torch.Tensor.cpu:
            return self.moved(*args, "cpu")
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return self.moved(function(*args, **{**kwargs, "device": None}), kwargs["device"])
        if args and isinstance(args[0], torch.Tensor) and args[0] in self.memory:
            if getattr(function, "__self__", None) is torch.Tensor.device:
                return torch.device(GPU)
            if function is torch.Tensor.numpy:
                raise TypeError("can't convert a tensor on the GPU to numpy")
            if function is torch.Tensor.__deepcopy__:
                result = function(*args)
                self.memory.add(result)
                return result
        before = self.memory.inside
        self.memory.inside = any(isinstance(t, torch.Tensor) and t in self.memory for t in tree_leaves((args, kwargs)))
        try:
            return function(*args, **kwargs)
        finally:
            self.memory.inside = before

    def moved(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`to` a device, or to another type where it is, or to where another tensor is."""
        result = tensor.to(*args, **kwargs)
        asked = kwargs.get("device", args[0] if args else None)
        if asked is None or isinstance(asked, torch.dtype):
            on = tensor in self.memory
        elif isinstance(asked, torch.Tensor):
            on = asked in self.memory
        else:
            on = torch.device(asked) == torch.device(GPU)
        if on == (result in self.memory):
            return result
        result = result.clone() if result is tensor else result
        (self.memory.add if on else self.memory.drop)(result)
        return result


@contextmanager
def pretended() -> Iterator[Memory]:
    memory = Memory()
    with Operations(memory), Calls(memory):
        yield memory
