"""The CUDA driver API through ctypes: it comes with every NVIDIA driver, so nothing has to be installed or compiled."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from typing import Any

from rerender.propagate.cuda.errors import CudaError, NoGpuError

_API: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuCtxPushCurrent_v2": [c_void_p],
    "cuCtxPopCurrent_v2": [POINTER(c_void_p)],
    "cuModuleLoadDataEx": [POINTER(c_void_p), c_char_p, c_uint, c_void_p, c_void_p],
    "cuModuleGetFunction": [POINTER(c_void_p), c_void_p, c_char_p],
    "cuLaunchKernel": [c_void_p, *[c_uint] * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p)],
}


def open_library() -> ctypes.CDLL:
    """Open the driver's library.

    Raises:
        NoGpuError: no NVIDIA driver is installed.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise NoGpuError("no NVIDIA driver is installed") from error


class Driver:
    """The calls that are needed. Each raises `CudaError` with the driver's code and text.

    Args:
        library: what `open_library` returns, or something with the same functions.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        for name, types in _API.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, c_int
        self._contexts: dict[int, c_void_p] = {}
        self._call("cuInit", 0)

    @contextmanager
    def context(self, ordinal: int) -> Iterator[None]:
        """Make the primary context of a device, which is torch's too, current in the calling thread."""
        self._call("cuCtxPushCurrent_v2", self._primary(ordinal))
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def load(self, image: bytes) -> c_void_p:
        """Load a module, PTX text or a cubin, into the current context."""
        module = c_void_p()
        self._call("cuModuleLoadDataEx", byref(module), image, 0, None, None)
        return module

    def function(self, module: c_void_p, name: str) -> c_void_p:
        """Return a kernel of a module."""
        function = c_void_p()
        self._call("cuModuleGetFunction", byref(function), module, name.encode())
        return function

    def launch(
        self, function: c_void_p, grid: tuple[int, int], block: tuple[int, int], stream: int, arguments: Sequence[Any]
    ) -> None:
        """Queue a kernel on a stream. `arguments` are ctypes values of the kernel's parameter types."""
        pointers = (c_void_p * len(arguments))(*[ctypes.addressof(argument) for argument in arguments])
        self._call("cuLaunchKernel", function, *grid, 1, *block, 1, 0, stream, pointers, None)

    def _primary(self, ordinal: int) -> c_void_p:
        """Retained once and for good: torch keeps it as long as the process lives."""
        if ordinal not in self._contexts:
            device, context = c_int(), c_void_p()
            self._call("cuDeviceGet", byref(device), ordinal)
            self._call("cuDevicePrimaryCtxRetain", byref(context), device)
            self._contexts[ordinal] = context
        return self._contexts[ordinal]

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == 0:
            return
        text = c_char_p()
        self._library.cuGetErrorString(code, byref(text))
        raise CudaError(f"{name}: {(text.value or b'unknown error').decode()} ({code})", code=code)
