"""Loading and launching: the PTX first, then NVRTC, from any thread, on torch's stream."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.propagate.cuda import device as device_module
from rerender.propagate.cuda import engine, nvrtc
from rerender.propagate.cuda.device import PTX, SIGNATURES, SOURCE, Device, load_kernels, open_device
from rerender.propagate.cuda.driver import Driver
from rerender.propagate.cuda.errors import CudaError, NoGpuError
from rerender.propagate.problem import Effort, Guide
from tests.propagate.cuda.conftest import STREAM, StandIn, there
from tools import build_ptx

EFFORT = Effort(2, 1, radius=2)
CODES = {"int4": "s", "short4": "s", "short": "s", "int2": "i", "int": "i", "u8": "b", "uchar4": "b", "float4": "f"}


def has_nvrtc() -> bool:
    try:
        return importlib.util.find_spec("nvidia.cuda_nvrtc") is not None
    except ModuleNotFoundError:
        return False


needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="nvidia-cuda-nvrtc-cu11 is not installed")


def pictures() -> tuple[torch.Tensor, list[Guide]]:
    style, source, target = there(np.random.default_rng(0).integers(0, 256, (3, 12, 14, 3), dtype=np.uint8))
    return style, [Guide(source, target, 2.0)]


def test_the_committed_ptx_names_the_source_that_it_was_made_from() -> None:
    text = PTX.read_text(encoding="utf-8")
    assert build_ptx.source_digest() in text.splitlines()[1]
    assert re.search(r"^\.version 6\.4$\s^\.target sm_50$", text, re.MULTILINE)
    assert set(re.findall(r"\.visible \.entry (\w+)\(", text)) == set(SIGNATURES)


@needs_nvrtc
def test_the_committed_ptx_is_what_the_source_gives() -> None:
    assert build_ptx.build_ptx() == PTX.read_text(encoding="utf-8")


def test_every_kernel_has_the_parameters_of_its_signature() -> None:
    source = SOURCE.read_text(encoding="utf-8").replace("\\\n", "")
    found = {}
    for name, parameters in re.findall(r'extern "C" __global__ void (\w+)(?:##PATCH)?\((.*?)\)', source, re.DOTALL):
        codes = ""
        for parameter in parameters.split(","):
            words = parameter.replace("const ", "").split()
            scalar = {"int": "I", "u32": "U", "float": "F"}
            codes += CODES[words[0][:-1]] if words[0].endswith("*") else scalar[words[0]]
        for full in [f"{name}{patch}" for patch in (3, 5, 7)] if name.endswith("_") else [name]:
            found[full] = codes
    assert found == SIGNATURES


def test_a_launch_covers_the_picture_on_torchs_stream_and_counts_each_use(device: Device, standin: StandIn) -> None:
    field = torch.from_numpy(np.random.default_rng(1).integers(0, 7, (19, 35, 2)).astype(np.int32))
    uses = torch.zeros(8, 9, dtype=torch.int32)
    with device.current():
        device.launch("count_uses", (19, 35), field, uses, torch.ones(1, dtype=torch.int32), 19, 35, 9)
    expected = np.zeros((8, 9), int)
    np.add.at(expected, (field[..., 1].flatten().numpy(), field[..., 0].flatten().numpy()), 1)
    assert np.array_equal(uses.numpy(), expected)
    assert standin.last_stream == STREAM


@pytest.mark.parametrize(
    "wrong",
    [
        (torch.zeros(4, 4, 2), 0, 1),
        (torch.zeros(4, 4, 2, dtype=torch.int32).transpose(0, 1), 0, 1),
        (7, 0, 1),
        (torch.zeros(4, 4, 2, dtype=torch.int32), 0),
    ],
)
def test_what_is_not_the_kernels_is_not_launched(device: Device, standin: StandIn, wrong: tuple[Any, ...]) -> None:
    numbers = torch.ones(16, dtype=torch.int32)
    with pytest.raises(TypeError, match="count_uses"):
        device.launch("count_uses", (4, 4), wrong[0], numbers, numbers, 4, *[4] * len(wrong[1:]))
    assert standin.launches == 0


def test_it_works_from_any_thread_with_one_context_and_leaves_none_current(device: Device, standin: StandIn) -> None:
    style, guides = pictures()
    results: list[np.ndarray] = []

    def work() -> None:
        results.append(engine.synthesize(device, style, guides, effort=EFFORT, patch=3).nnf.numpy())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work()
    assert len(results) == 3
    assert all(np.array_equal(result, results[0]) for result in results)
    assert standin.retained == 1
    with pytest.raises(CudaError) as error:  # no context is left on this thread
        device.driver.load(b"")
    assert error.value.code == 201


def test_a_context_is_given_back_after_an_error(device: Device, standin: StandIn) -> None:
    standin.fail_launches = 700
    style, guides = pictures()
    with pytest.raises(CudaError) as error:
        engine.synthesize(device, style, guides, effort=EFFORT, patch=3)
    assert error.value.code == 700
    standin.fail_launches = 0
    with pytest.raises(CudaError) as error:
        device.driver.load(b"")
    assert error.value.code == 201


def test_the_kernels_are_loaded_once(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "open_library", lambda: standin.library)
    assert open_device() is open_device()
    assert open_device().home == torch.device("cuda", 0)
    assert (standin.loaded_ptx, standin.retained) == (1, 1)


@needs_nvrtc
def test_a_driver_that_refuses_the_ptx_gets_machine_code(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def beside_torch(version: str, folder: Path) -> ctypes.CDLL:
        asked.append((version, folder))
        return build_ptx.open_nvrtc()

    monkeypatch.setattr(nvrtc, "open_beside_torch", beside_torch)
    standin.refuse_ptx = 222
    driver = Driver(standin.library)
    with driver.context(0):
        assert set(load_kernels(driver, 0)) == set(SIGNATURES)
    assert (standin.loaded_ptx, standin.loaded_cubins) == (0, 1)
    assert asked == [("11.8", Path(torch.__file__).parent)]


@pytest.mark.parametrize(
    ("code", "compiled"), [*((code, True) for code in (209, 218, 221, 222)), (2, False), (999, False)]
)
def test_only_a_refusal_of_the_ptx_is_answered_by_compiling(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, code: int, compiled: bool
) -> None:
    calls = []

    def no_nvrtc(*_: object) -> ctypes.CDLL:
        calls.append(1)
        raise CudaError("torch came without NVRTC")

    monkeypatch.setattr(nvrtc, "open_beside_torch", no_nvrtc)
    standin.refuse_ptx = code
    driver = Driver(standin.library)
    with driver.context(0), pytest.raises(CudaError, match="without NVRTC" if compiled else str(code)):
        load_kernels(driver, 0)
    assert bool(calls) == compiled


def test_a_failure_is_remembered(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.refuse_all = 999
    monkeypatch.setattr(device_module, "open_library", lambda: standin.library)
    for _ in range(2):
        with pytest.raises(CudaError, match="999"):
            open_device()
    assert standin.retained == 1


def test_a_lack_of_memory_is_not_remembered(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "open_library", lambda: standin.library)
    standin.refuse_all = 2
    with pytest.raises(CudaError, match="out of memory"):
        open_device()
    standin.refuse_all = 0
    assert open_device().index == 0


def test_rocm_is_not_taken_for_cuda(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "open_library", lambda: standin.library)  # of another GPU beside it
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(NoGpuError, match="torch sees no CUDA device"):
        open_device()
    assert standin.retained == 0


@pytest.mark.parametrize(
    "place", ["torch/lib/libnvrtc.so.97", "nvidia/cuda_nvrtc/lib/libnvrtc.so.97", "nvidia/cu97/lib/libnvrtc.so.97.1"]
)
def test_nvrtc_is_found_where_torchs_wheels_have_it(standin: StandIn, tmp_path: Path, place: str) -> None:
    with pytest.raises(CudaError, match="without NVRTC"):
        nvrtc.open_beside_torch("97.3", tmp_path / "torch")
    (tmp_path / place).parent.mkdir(parents=True)
    shutil.copy(standin.path, tmp_path / place)
    assert nvrtc.open_beside_torch("97.3", tmp_path / "torch")._name == str(tmp_path / place)


@pytest.mark.skipif(sys.platform == "win32", reason="Linux' names")
def test_nvrtc_is_asked_for_first_by_the_name_that_torch_loaded_it_by(tmp_path: Path) -> None:
    """CUDA 11 kept the name of its 11.2."""
    names = [next(iter(nvrtc._candidates(major, tmp_path))) for major in ("11", "12", "13")]
    assert names == ["libnvrtc.so.11.2", "libnvrtc.so.12", "libnvrtc.so.13"]


@needs_nvrtc
def test_what_does_not_compile_says_why() -> None:
    with pytest.raises(CudaError, match="no_such_thing"):
        nvrtc.compile_kernels(build_ptx.open_nvrtc(), b"int f() { return no_such_thing; }", "compute_50")
