"""A CUDA device without one: tensors that say they are there, refuse to be mixed with the CPU's, and have values.

A GPU refuses an operation whose tensors lie on different devices; on the CPU everything lies in one place, and no test
would notice. Here each tensor of the device "cuda" wraps one of the CPU, and every operation is looked at on its way
(``torch.utils._python_dispatch``). Streams, events and pinned memory are as if everything were done at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten

# Where PyTorch takes tensors of both devices.
_MIXING = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default}


class Pretended(torch.Tensor):
    """A tensor on the device; `value` is the same on the CPU.

    PyTorch's C++ takes it for one of the CPU, since it may not be built for the device; Python is told "cuda".
    """

    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            layout=value.layout,
            device=value.device,
            requires_grad=False,
        )
        made.value = value
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.value!r})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _SPECIAL:
            return _SPECIAL[func](*args, **kwargs or {})
        # Not super()'s, which would make a result on the CPU one of this class.
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``Tensor.to``, of which one argument at least is on the device."""
    like = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
    if like is not None:
        args = (like.device, like.dtype)
    named = [kwargs.pop("device", None), *(arg for arg in args if isinstance(arg, (str, torch.device)))]
    others = [arg for arg in args if not isinstance(arg, (str, torch.device))]
    device = next((torch.device(name) for name in named if name is not None), tensor.device)
    if isinstance(tensor, Pretended) and device.type == "cuda":
        return torch._C._disabled_torch_function_impl(torch.Tensor.to, (), (tensor, *others), kwargs)
    return _on_the_cpu(tensor).to(device, *others, **kwargs)


def _set_data(tensor: Pretended, other: Pretended) -> None:
    tensor.value = other.value


def _no_array(tensor: Pretended, *_: Any, **__: Any) -> Any:
    raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")


_SPECIAL: dict[Any, Any] = {
    torch.Tensor.device.__get__: lambda tensor: DEVICE if isinstance(tensor, Pretended) else torch.device("cpu"),
    torch.Tensor.is_cuda.__get__: lambda tensor: isinstance(tensor, Pretended),
    torch.Tensor.is_cpu.__get__: lambda tensor: not isinstance(tensor, Pretended),
    torch.Tensor.data.__get__: lambda tensor: Pretended(tensor.value),
    torch.Tensor.data.__set__: _set_data,
    torch.Tensor.to: _to,
    torch.Tensor.cpu: lambda tensor: tensor.value.clone(),
    torch.Tensor.cuda: lambda tensor, *_, **__: tensor,
    torch.Tensor.data_ptr: lambda tensor: tensor.value.data_ptr(),
    torch.Tensor.numpy: _no_array,
    torch.Tensor.__array__: _no_array,
}


class _Device(TorchDispatchMode):
    """Sees what makes a tensor from none, and copies from the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _FromValues(TorchFunctionMode):
    """``torch.tensor`` writes its values without any operation that could be looked at."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and "cuda" in str(kwargs.get("device")):
            return Pretended(func(*tree_map(_on_the_cpu, args), **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the CPU; its results are on the device if its arguments or its `device` are.

    Raises:
        RuntimeError: tensors of both devices where PyTorch takes only one.
    """
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(leaf, Pretended) for leaf in tensors)
    foreign = [leaf for leaf in tensors if not isinstance(leaf, Pretended) and leaf.dim() and leaf.device.type == "cpu"]
    if there and foreign and func not in _MIXING:
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} got {_described(tensors)}")
    wanted = kwargs.get("device")
    if wanted is not None and torch.device(wanted).type == "cuda":
        there, kwargs = True, {**kwargs, "device": "cpu"}
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    result = func(*tree_map(_on_the_cpu, args), **tree_map(_on_the_cpu, kwargs))
    if _writes_first(func):
        return args[0]
    return tree_map(_on_the_device, result) if there else result


def _writes_first(func: Any) -> bool:
    """Whether an operation works in place, and so returns what it was given."""
    first = func._schema.arguments[0] if func._schema.arguments else None
    return first is not None and first.alias_info is not None and first.alias_info.is_write


def _on_the_device(leaf: Any) -> Any:
    return Pretended(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _on_the_cpu(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Pretended) else leaf


def _described(tensors: list[torch.Tensor]) -> str:
    places = ["cuda" if isinstance(tensor, Pretended) else "cpu" for tensor in tensors]
    return ", ".join(f"{tuple(tensor.shape)} on {place}" for tensor, place in zip(tensors, places, strict=True))


@contextlib.contextmanager
def pretended_cuda(free: int = 8 << 30) -> Iterator[None]:
    """Have a CUDA device with `free` bytes of free memory."""
    stream = mock.MagicMock(name="stream")
    patches = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "mem_get_info": lambda device=None: (free, free),
        "synchronize": lambda device=None: None,
        "Event": mock.MagicMock,
        "Stream": lambda *args, **named: stream,
        "stream": lambda chosen: contextlib.nullcontext(),
        "current_stream": lambda device=None: stream,
        "device": lambda chosen: contextlib.nullcontext(),
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
    }
    methods = {"record_stream": lambda tensor, stream: None, "pin_memory": lambda tensor: tensor}
    with (
        mock.patch.multiple(torch.cuda, **patches),
        mock.patch.multiple(torch.Tensor, **methods),
        _Device(),
        _FromValues(),
    ):
        yield
