"""A GPU with the kernels loaded: opened once a process and device, used from any thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_float, c_int, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rerender.propagate.cuda import nvrtc
from rerender.propagate.cuda.driver import Driver, open_library
from rerender.propagate.cuda.errors import OUT_OF_MEMORY, CudaError, NoGpuError

_log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.cu")
PTX = Path(__file__).with_name("kernels.ptx")

# Parameters of the kernels: s, i, b, f = pointers to int16, int32, uint8, float32; I, U, F = int, unsigned, float.
SIGNATURES = {
    **{f"score_{patch}": "ssiibIIII" for patch in (3, 5, 7)},
    **{f"search_{patch}": "ssiiiibIIIIIIIU" for patch in (3, 5, 7)},
    "vote": "siibsbiIIIIIIF",
    "activate": "bbbiIII",
    "count_uses": "iiiIII",
    "spread_rows": "iiiIII",
    "spread_columns": "iiiiiIIII",
    "upsample": "iiIIIIII",
    "quarter_pixels": "bibII",
    "fine_vote": "biiifIIIIIF",
}
_POINTERS = {"s": torch.int16, "i": torch.int32, "b": torch.uint8, "f": torch.float32}
_VALUES: dict[str, Any] = {"I": c_int, "U": c_uint, "F": c_float}

_BLOCK = (16, 8)  # threads of a block along x and y
_REFUSALS = (209, 218, 221, 222)  # no binary for this GPU, invalid PTX, no compiler in the driver, unknown PTX version

_lock = threading.Lock()
_opened: dict[int, Device | CudaError] = {}


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: torch's number of it.
        home: where torch keeps the tensors of the kernels.
        driver: the driver's API.
        functions: the kernels by name.
    """

    index: int
    home: torch.device
    driver: Driver
    functions: dict[str, c_void_p]

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this GPU, and torch's context on it, current in the calling thread."""
        with torch.cuda.device(self.index), self.driver.context(self.index):
            yield

    def launch(self, kernel: str, shape: tuple[int, int], *arguments: torch.Tensor | float) -> None:
        """Queue a kernel on torch's current stream, a thread for each pixel of a (rows, columns) picture.

        Raises:
            TypeError: tensors or numbers that are not the kernel's.
            CudaError: the driver refuses.
        """
        grid = -(-shape[1] // _BLOCK[0]), -(-shape[0] // _BLOCK[1])
        stream = torch.cuda.current_stream(self.index).cuda_stream
        self.driver.launch(self.functions[kernel], grid, _BLOCK, stream, _marshal(kernel, arguments))


def open_device() -> Device:
    """Return torch's current GPU, ready to launch on. A failure is remembered as well, but for a lack of memory.

    Raises:
        CudaError: the GPU cannot be used.
    """
    if not torch.cuda.is_available() or torch.version.cuda is None:  # ROCm says available, and has no version here
        raise NoGpuError("torch sees no CUDA device")
    index = torch.cuda.current_device()
    with _lock:
        opened = _opened.get(index) or _try(index)
        if not (isinstance(opened, CudaError) and opened.code == OUT_OF_MEMORY):
            _opened[index] = opened
    if isinstance(opened, CudaError):
        raise opened
    return opened


def load_kernels(driver: Driver, index: int) -> dict[str, c_void_p]:
    """Load the PTX of the repository, or compile its source where the driver refuses that. A context is current.

    Raises:
        CudaError: neither works.
    """
    try:
        module = driver.load(PTX.read_bytes() + b"\0")
    except CudaError as refusal:
        if refusal.code not in _REFUSALS:
            raise
        _log.info("the driver refuses the compiled kernels (%s); compiling them with torch's NVRTC", refusal)
        module = driver.load(_compile(index))
    return {name: driver.function(module, name) for name in SIGNATURES}


def _try(index: int) -> Device | CudaError:
    try:
        driver = Driver(open_library())
        with torch.cuda.device(index), driver.context(index):
            return Device(index, torch.device("cuda", index), driver, load_kernels(driver, index))
    except CudaError as error:
        return error


def _compile(index: int) -> bytes:
    """Machine code for this very GPU, so that nothing depends on which PTX the driver knows."""
    major, minor = torch.cuda.get_device_capability(index)
    library = nvrtc.open_beside_torch(str(torch.version.cuda), Path(torch.__file__).parent)
    return nvrtc.compile_kernels(library, SOURCE.read_bytes(), f"sm_{major}{minor}")


def _marshal(kernel: str, arguments: tuple[torch.Tensor | float, ...]) -> list[Any]:
    signature = SIGNATURES[kernel]
    if len(signature) != len(arguments):
        raise TypeError(f"{kernel} takes {len(signature)} arguments, not {len(arguments)}")
    return [_argument(kernel, code, value) for code, value in zip(signature, arguments, strict=True)]


def _argument(kernel: str, code: str, value: torch.Tensor | float) -> Any:
    if isinstance(value, torch.Tensor):
        if value.dtype != _POINTERS.get(code) or not value.is_contiguous():
            raise TypeError(f"{kernel} does not take a tensor {value.dtype} {tuple(value.stride())} for {code!r}")
        return c_void_p(value.data_ptr())
    if code not in _VALUES:
        raise TypeError(f"{kernel} wants a tensor for {code!r}, not {value!r}")
    return _VALUES[code](value)
