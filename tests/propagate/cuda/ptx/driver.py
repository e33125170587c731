"""The driver's library, with the interpreter behind it, and a device that says what its launches may touch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.driver import _API
from tests.propagate.cuda.ptx.arithmetic import TYPES
from tests.propagate.cuda.ptx.errors import PtxError
from tests.propagate.cuda.ptx.machine import Machine
from tests.propagate.cuda.ptx.memory import Memory

_HANDLE = 0x10  # of the device, the context and the module


class Library:
    """What `Driver` opens in the place of the driver's library. A failure is a code, and a text that says it all.

    Attributes:
        machine: the module that was loaded last.
        allocations: (address, bytes) of all that the next launch may touch.
        launches: how many there were.
    """

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.allocations: list[tuple[int, int]] = []
        self.launches = 0
        self._error = b""
        for name, types in _API.items():
            setattr(self, name, CFUNCTYPE(c_int, *types)(self._guarded(getattr(self, f"_{name}"))))

    def _guarded(self, function: Callable[..., None]) -> Callable[..., int]:
        """An exception cannot leave a C function."""

        def call(*arguments: Any) -> int:
            try:
                function(*arguments)
            except PtxError as error:
                self._error = str(error).encode()
                return error.code
            except Exception as error:
                self._error = f"the interpreter failed: {error!r}".encode()
                return 999
            return 0

        return call

    def _cuInit(self, flags: int) -> None:  # noqa: N802
        pass

    def _cuGetErrorString(self, code: int, text: Any) -> None:  # noqa: N802
        text[0] = self._error

    def _cuDeviceGet(self, device: Any, ordinal: int) -> None:  # noqa: N802
        device[0] = ordinal

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:  # noqa: N802
        context[0] = _HANDLE

    def _cuCtxPushCurrent_v2(self, context: int) -> None:  # noqa: N802
        pass

    def _cuCtxPopCurrent_v2(self, context: Any) -> None:  # noqa: N802
        context[0] = _HANDLE

    def _cuModuleLoadDataEx(self, module: Any, image: bytes, *_: Any) -> None:  # noqa: N802
        self.machine = Machine(image.decode("ascii"))
        module[0] = _HANDLE

    def _cuModuleGetFunction(self, function: Any, module: int, name: bytes) -> None:  # noqa: N802
        assert self.machine is not None
        function[0] = _HANDLE + list(self.machine.kernels).index(name.decode())

    def _cuLaunchKernel(self, function: int, *arguments: Any) -> None:  # noqa: N802
        *sizes, shared, _stream, places, extra = arguments
        if sizes[2] != 1 or sizes[5] != 1 or sizes[3] * sizes[4] > 1024 or shared or extra:
            raise PtxError(f"a launch of {sizes} threads, with {shared} bytes shared, that is not understood here")
        assert self.machine is not None
        kernel = list(self.machine.kernels.values())[function - _HANDLE]
        values = [_value(places[at], kind) for at, kind in enumerate(kernel.parameters.values())]
        self.launches += 1
        self.machine.launch(kernel.name, tuple(sizes[:2]), tuple(sizes[3:5]), values, Memory(self.allocations))


def _value(address: int, kind: str) -> Any:
    """A parameter's value, of the size that the kernel declares."""
    dtype = TYPES[kind.replace("u", "s")]  # registers hold integers as signed ones
    return np.frombuffer(ctypes.string_at(address, dtype.itemsize), dtype)[0]


@dataclass(frozen=True)
class InterpretedDevice(Device):
    """A device whose launches may touch the tensors that they are given, and not a byte more."""

    library: Library

    @property
    def machine(self) -> Machine:
        """What runs the kernels."""
        assert self.library.machine is not None
        return self.library.machine

    def launch(self, kernel: str, shape: tuple[int, int], *arguments: torch.Tensor | float) -> None:
        """Queue a kernel: it has run when this returns."""
        tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
        self.library.allocations = [(each.data_ptr(), each.numel() * each.element_size()) for each in tensors]
        super().launch(kernel, shape, *arguments)
