"""Which device a synthesis runs on, and what happens when the GPU gives up."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from rerender.errors import UserError
from rerender.propagate import cuda
from rerender.propagate.cuda import device as device_module
from rerender.propagate.cuda import driver as driver_module
from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.errors import CudaError, NoGpuError
from rerender.propagate.guides import pixel_grid
from rerender.propagate.problem import Effort, Guide
from rerender.propagate.synthesis import synthesize
from tests.propagate.cuda.conftest import StandIn

OPTIONS: dict[str, Any] = {"effort": Effort(2, 1, radius=2), "patch": 3, "threads": 1}


def pictures() -> tuple[np.ndarray, list[Guide]]:
    style, source, target = np.random.default_rng(0).integers(0, 256, (3, 12, 14, 3), dtype=np.uint8)
    return style, [Guide(source, target, 2.0)]


@pytest.fixture
def gpu(device: Device, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(driver_module, "open_library", lambda: standin.library)
    monkeypatch.setattr(device_module, "_opened", {0: device})
    return standin


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoGpuError("no NVIDIA driver is installed")

    cuda._say_once.cache_clear()
    monkeypatch.setattr(driver_module, "open_library", missing)


def test_without_a_driver_the_cpu_works_and_one_line_says_so(no_driver: None, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    assert cuda.choose_synthesis("auto") is synthesize
    assert cuda.choose_synthesis("auto") is synthesize
    assert not cuda.usable()
    assert [record.message for record in caplog.records] == [
        "CUDA: no NVIDIA driver is installed; propagation runs on the CPU"
    ]


def test_who_insists_on_cuda_is_told_what_is_missing(no_driver: None) -> None:
    with pytest.raises(UserError, match="no NVIDIA driver"):
        cuda.choose_synthesis("cuda")


def test_a_gpu_that_refuses_everything_is_worth_a_warning(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    cuda._say_once.cache_clear()
    standin.refuse_all = 999
    for module in (driver_module, device_module):
        monkeypatch.setattr(module, "open_library", lambda: standin.library)
    assert cuda.choose_synthesis("auto") is synthesize
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "999" in caplog.text


@pytest.mark.parametrize("wish", ["auto", "cuda"])
def test_where_it_works_the_gpu_is_taken(gpu: StandIn, wish: Any) -> None:
    style, guides = pictures()
    result = cuda.choose_synthesis(wish)(style, guides, **OPTIONS)
    assert gpu.launches > 0
    assert result.picture.shape == (12, 14, 3)


def test_the_cpu_can_be_insisted_on(gpu: StandIn) -> None:
    assert cuda.choose_synthesis("cpu") is synthesize


def test_a_full_gpu_hands_over_to_the_cpu_for_good(gpu: StandIn, caplog: Any) -> None:
    style, guides = pictures()
    chosen = cuda.choose_synthesis("cuda")
    gpu.fail_launches = 2
    first = chosen(style, guides, **OPTIONS)
    gpu.fail_launches = 0
    second = chosen(style, guides, **OPTIONS)
    expected = synthesize(style, guides, **OPTIONS)
    assert np.array_equal(first.nnf, expected.nnf)
    assert np.array_equal(second.nnf, expected.nnf)
    assert gpu.launches == 0
    assert len(caplog.records) == 1
    assert "out of memory" in caplog.text


def way(record: logging.LogRecord) -> str:
    return record.getMessage().split("it goes on ")[1].split(":")[0]


def test_a_gpu_that_is_too_small_works_in_bands_before_it_gives_up(gpu: StandIn, caplog: Any) -> None:
    rng = np.random.default_rng(0)
    style, frame = rng.integers(0, 256, (2, 640, 14, 3), dtype=np.uint8)
    guides, options = (
        [Guide(frame, frame, 6.0)],
        {**OPTIONS, "start": pixel_grid(640, 14).astype(np.int32), "start_levels": 1},
    )
    chosen = cuda.choose_synthesis("cuda")
    whole = chosen(style, guides, **options)
    gpu.most_threads = 2200 * 64  # the whole source has 2557 × 53 quarter pixels, that of a half about 1900
    small = chosen(style, guides, **options)
    chosen(style, guides, **options)
    assert [way(record) for record in caplog.records] == ["in 2 bands"]
    assert (small.nnf == whole.nnf).mean() > 0.99
    assert (small.picture == whole.picture).mean() > 0.95
    gpu.most_threads = 1
    last = chosen(style, guides, **options)
    assert [way(record) for record in caplog.records[1:]] == ["in 4 bands", "in 8 bands", "on the CPU"]
    assert np.array_equal(last.nnf, synthesize(style, guides, **options).nnf)


def test_torchs_own_lack_of_memory_counts_too(gpu: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    import torch

    from rerender.propagate.cuda import engine

    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(engine, "synthesize", full)
    style, guides = pictures()
    assert cuda.choose_synthesis("auto")(style, guides, **OPTIONS).picture.shape == (12, 14, 3)
    assert "2 GiB" in caplog.text


def test_other_failures_are_not_hidden(gpu: StandIn) -> None:
    style, guides = pictures()
    chosen = cuda.choose_synthesis("auto")
    gpu.fail_launches = 700
    with pytest.raises(CudaError, match="700"):
        chosen(style, guides, **OPTIONS)
