"""Where an interval is computed, and what happens when the GPU gives up."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.arrays import HOST, bring
from rerender.errors import UserError
from rerender.propagate import backend as backend_module
from rerender.propagate import cuda
from rerender.propagate.backend import Backend, HostBackend, make_backend
from rerender.propagate.cuda import device as device_module
from rerender.propagate.cuda import driver as driver_module
from rerender.propagate.cuda import engine
from rerender.propagate.cuda.errors import CudaError, NoGpuError
from rerender.propagate.guides import pixel_grid
from rerender.propagate.problem import EFFORTS, Effort, Guide
from rerender.propagate.settings import DeviceName, PropagationSettings
from rerender.propagate.synthesis import Synthesis
from tests.propagate.cuda.conftest import StandIn


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "fast", Effort(2, 1, radius=2))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoGpuError("no NVIDIA driver is installed")

    backend_module._say_once.cache_clear()
    monkeypatch.setattr(driver_module, "open_library", missing)


def settings(device: DeviceName) -> PropagationSettings:
    return PropagationSettings(preset="fast", patch_size=3, threads=1, device=device)


def pictures() -> tuple[np.ndarray, list[Guide], np.ndarray | None, np.ndarray | None]:
    style, source, target = np.random.default_rng(0).integers(0, 256, (3, 12, 14, 3), dtype=np.uint8)
    return style, [Guide(source, target, 2.0)], None, None


def made(backend: Backend, arguments: Any) -> Synthesis:
    return bring(backend.run(backend.synthesize, *arguments), HOST)


def on_host(arguments: Any) -> Synthesis:
    return HostBackend(settings("cpu")).synthesize(*arguments)


def test_without_a_driver_the_cpu_works_and_one_line_says_so(no_driver: None, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert isinstance(make_backend(settings("auto")), HostBackend)
    assert not cuda.usable()
    assert [record.message for record in caplog.records] == [
        "CUDA: no NVIDIA driver is installed; propagation runs on the CPU"
    ]


def test_who_insists_on_cuda_is_told_what_is_missing(no_driver: None) -> None:
    with pytest.raises(UserError, match="no NVIDIA driver"):
        make_backend(settings("cuda"))


def test_a_gpu_that_refuses_everything_is_worth_a_warning(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    backend_module._say_once.cache_clear()
    standin.refuse_all = 999
    for module in (driver_module, device_module):
        monkeypatch.setattr(module, "open_library", lambda: standin.library)
    assert isinstance(make_backend(settings("auto")), HostBackend)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "999" in caplog.text


def test_a_gpu_that_refuses_the_kernels_and_has_no_compiler_leaves_the_work_to_the_cpu(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    backend_module._say_once.cache_clear()
    standin.refuse_ptx = 222
    for module in (driver_module, device_module):
        monkeypatch.setattr(module, "open_library", lambda: standin.library)
    monkeypatch.setattr(torch.version, "cuda", "97.3")
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    for _ in range(2):
        assert isinstance(make_backend(settings("auto")), HostBackend)
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA: torch came without NVRTC; propagation runs on the CPU"
    ]
    with pytest.raises(UserError, match="without NVRTC"):
        make_backend(settings("cuda"))


@pytest.mark.parametrize("wish", ["auto", "cuda"])
def test_where_it_works_the_gpu_is_taken_and_keeps_the_result(gpu: StandIn, wish: DeviceName) -> None:
    chosen = make_backend(settings(wish))
    result = chosen.run(chosen.synthesize, *pictures())
    assert gpu.launches > 0
    assert all(isinstance(part, torch.Tensor) for part in (result.picture, result.nnf, result.error))
    assert result.picture.shape == (12, 14, 3)


def test_the_cpu_can_be_insisted_on(gpu: StandIn) -> None:
    assert isinstance(make_backend(settings("cpu")), HostBackend)


def test_a_full_gpu_hands_over_to_the_cpu_for_good(gpu: StandIn, caplog: Any) -> None:
    chosen = make_backend(settings("cuda"))
    lies_there = chosen.here(pictures())
    gpu.fail_launches = 2
    first = made(chosen, pictures())
    gpu.fail_launches = 0
    second = chosen.run(chosen.synthesize, *lies_there)
    expected = on_host(pictures())
    assert np.array_equal(first.nnf, expected.nnf)
    assert np.array_equal(second.nnf, expected.nnf)
    assert isinstance(chosen.here(lies_there[0]), np.ndarray)
    assert gpu.launches == 0
    assert len(caplog.records) == 1
    assert "out of memory" in caplog.text


def way(record: logging.LogRecord) -> str:
    return record.getMessage().split("it goes on ")[1].split(":")[0]


def test_a_gpu_that_is_too_small_works_in_bands_before_it_gives_up(gpu: StandIn, caplog: Any) -> None:
    style, frame = np.random.default_rng(0).integers(0, 256, (2, 640, 14, 3), dtype=np.uint8)
    arguments = style, [Guide(frame, frame, 6.0)], pixel_grid(640, 14).astype(np.int32), None
    chosen = make_backend(settings("cuda"))
    whole = made(chosen, arguments)
    gpu.most_threads = 2200 * 64  # the whole source has 2557 × 53 quarter pixels, that of a half about 1900
    small = made(chosen, arguments)
    made(chosen, arguments)
    assert [way(record) for record in caplog.records] == ["in 2 bands"]
    assert (small.nnf == whole.nnf).mean() > 0.98
    assert (small.picture == whole.picture).mean() > 0.9
    gpu.most_threads = 1
    last = made(chosen, arguments)
    assert [way(record) for record in caplog.records[1:]] == ["in 4 bands", "in 8 bands", "on the CPU"]
    assert np.array_equal(last.nnf, on_host(arguments).nnf)


def test_torchs_own_lack_of_memory_counts_too(gpu: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    emptied = list[int]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))

    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(engine, "synthesize", full)
    assert made(make_backend(settings("auto")), pictures()).picture.shape == (12, 14, 3)
    assert "2 GiB" in caplog.text
    assert emptied  # what torch kept of the failed attempt is there for the next one


def test_other_failures_are_not_hidden(gpu: StandIn) -> None:
    chosen = make_backend(settings("auto"))
    gpu.fail_launches = 700
    with pytest.raises(CudaError, match="700"):
        made(chosen, pictures())
