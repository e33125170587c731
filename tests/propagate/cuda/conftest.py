"""A driver without a GPU: the kernels compiled for the host, and torch's CUDA calls pointed at the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rerender.arrays import bring
from rerender.arrays.device import operations_on
from rerender.propagate.cuda import device as device_module
from rerender.propagate.cuda import driver as driver_module
from rerender.propagate.cuda.device import SOURCE, Device, load_kernels
from rerender.propagate.cuda.driver import Driver

STREAM = 0x5EED
HOME = torch.device("cpu")
_COUNTERS = ("retained", "loaded_ptx", "loaded_cubins", "launches", "without_context")
_SWITCHES = ("refuse_ptx", "refuse_all", "fail_launches", "backwards", "most_threads")


def there(value: Any) -> Any:
    """Arrays as the stand-in's tensors."""
    return bring(value, operations_on(HOME))


def believe_in_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that it has a GPU, on whose stream the CPU works."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (5, 2))
    monkeypatch.setattr(torch.version, "cuda", "11.8")
    monkeypatch.setattr(device_module, "_opened", {})


class StandIn:
    """The stand-in library, with its switches and counters as attributes."""

    def __init__(self, path: Path) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "library", ctypes.CDLL(str(path)))

    def __getattr__(self, name: str) -> int:
        return ctypes.c_int.in_dll(self.library, name).value

    def __setattr__(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self.library, name).value = value

    @property
    def last_stream(self) -> int:
        return ctypes.c_void_p.in_dll(self.library, "last_stream").value or 0


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is needed to compile the CUDA kernels for the host")
    path = tmp_path_factory.mktemp("standin") / "libstandin.so"
    source = Path(__file__).with_name("standin.cpp")
    options = ["-std=c++17", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]
    subprocess.run([compiler, *options, f"-I{SOURCE.parent}", str(source), "-o", str(path)], check=True)
    return StandIn(path)


@pytest.fixture
def standin(_compiled: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The library, and a torch that believes in CUDA."""
    for name in (*_COUNTERS, *_SWITCHES):
        setattr(_compiled, name, 0)
    believe_in_cuda(monkeypatch)
    yield _compiled
    assert _compiled.without_context == 0


@pytest.fixture
def device(standin: StandIn) -> Device:
    """A device whose tensors lie on the CPU."""
    driver = Driver(standin.library)
    with driver.context(0):
        return Device(0, HOME, driver, load_kernels(driver, 0))


@pytest.fixture
def gpu(device: Device, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What a backend finds when it looks for a GPU."""
    monkeypatch.setattr(driver_module, "open_library", lambda: standin.library)
    monkeypatch.setattr(device_module, "_opened", {0: device})
    return standin
