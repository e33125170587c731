"""The benchmark's part for a GPU, which no GPU has run: on the stand-in, so that it works when there is one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from benchmarks import propagation, propagation_memory
from benchmarks.propagation import gpu_frames_row, gpu_synthesis_row
from benchmarks.propagation_memory import peak_bytes
from rerender.propagate import PropagationSettings
from tests.propagate.cuda.conftest import StandIn


def test_the_figures_of_a_gpu_are_made(gpu: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**20)
    settings = PropagationSettings(preset="fast", device="cuda", threads=1)
    row = gpu_synthesis_row(settings, 48, 64)
    assert row["size"] == "48x64"
    assert row["psnr"] > 15
    assert 0.8 < row["error_to_cpu"] < 1.2
    frames = gpu_frames_row(settings, 48, 64, gap=3)
    assert frames["frames"] == 2
    assert frames["frame_wall_s"] == 2 * frames["frame_and_direction_wall_s"] > 0
    assert frames["flow_wall_s"] > 0
    assert (frames["gpu"], frames["peak_gpu_mib"]) == ("none", 1)


def test_without_a_gpu_the_figures_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(propagation, "usable", lambda: False)
    monkeypatch.setattr(propagation_memory, "peak_bytes", lambda *_: 2**20)
    monkeypatch.setattr(sys, "argv", ["propagation", "--parts", "cuda"])
    propagation.main()
    told = capsys.readouterr().out
    assert "cuda not measured (no usable GPU)" in told
    assert "wall_s" not in told


def test_memory_is_added_up_without_a_gpu() -> None:
    small, wide = (peak_bytes(64, width, 2) for width in (64, 128))
    assert 100 < small / 64**2 < 4000  # bytes a pixel
    assert wide == pytest.approx(2 * small, rel=0.1)
