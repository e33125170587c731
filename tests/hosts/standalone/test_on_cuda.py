"""The host and the method on a GPU, as far as a CPU can show it: nothing is mixed with what lies in main memory.

The device is pretended (`tests/pretended_cuda.py`); it computes what the CPU computes, so pictures must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rerender.errors import Interrupted
from rerender.evaluate.scenes import scene
from rerender.files import read_picture, write_png
from rerender.hosts.standalone import StandaloneHost, load_host
from tests.pretended_cuda import DEVICE, Pretended, pretended_cuda
from tests.test_pipeline import Run

SIDE = 48
LORA_LAYER = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
BASE: dict[str, Any] = {
    "prompt": "ink <lora:any:1>",
    "steps": 3,
    "denoising_strength": 0.75,
    "key_interval": 1,
    "flow": "dis_fast",
}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "two_pass": {"sampler": "DDIM", "passes": "two_pass", "fidelity_check": True, "attention_own_tokens": True},
    "bank in main memory": {"sampler": "DPM++ SDE", "passes": "shared", "attention_memory": "host"},
    "checkerboard in main memory": {"attention_tokens": "checkerboard", "attention_memory": "host"},
    "extras": {"sampler": "Heun", "freeu": True, "color_match": True, "seed_mode": "per_frame"},
}


@pytest.fixture(scope="module")
def lora_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    parts = {f"{LORA_LAYER}.lora_down.weight": (2, 32), f"{LORA_LAYER}.lora_up.weight": (32, 2)}
    save_file({name: torch.full(shape, 0.1) for name, shape in parts.items()}, folder / "any.safetensors")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three frames."""
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(scene("parallax", seed=1, size=(SIDE, SIDE), frames=3).frames):
        write_png(folder / f"{number:04d}.png", frame)
    return folder


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The left half."""
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    white = np.zeros((SIDE, SIDE, 3), np.uint8)
    white[:, : SIDE // 2] = 255
    write_png(path, white)
    return path


@pytest.fixture(scope="module")
def on_the_cpu(tiny_checkpoint: Path, lora_dir: Path) -> StandaloneHost:
    return load_host(tiny_checkpoint, device="cpu", lora_dir=lora_dir)


@pytest.fixture
def on_cuda(tiny_checkpoint: Path, lora_dir: Path) -> Iterator[StandaloneHost]:
    with pretended_cuda():
        host = load_host(tiny_checkpoint, device=str(DEVICE), precision="fp32", lora_dir=lora_dir)
        assert host.device == DEVICE
        yield host


def keys_of(run: Run) -> list[np.ndarray]:
    return [read_picture(path) for path in sorted((run.folder / "keys").glob("*.png"))]


@pytest.mark.parametrize("way", WAYS)
def test_key_frames_are_the_same(
    way: str, on_the_cpu: StandaloneHost, on_cuda: StandaloneHost, clip: Path, tmp_path: Path
) -> None:
    runs = [Run(tmp_path / str(host.device.type), clip, host) for host in (on_the_cpu, on_cuda)]
    for run in runs:
        run("keys", **BASE, **WAYS[way])
    cpu, cuda = map(keys_of, runs)
    assert len(cpu) == 3
    np.testing.assert_array_equal(cuda, cpu)


def test_masks_and_a_run_that_was_stopped(
    on_the_cpu: StandaloneHost, on_cuda: StandaloneHost, clip: Path, mask: Path, tmp_path: Path
) -> None:
    whole, stopped = Run(tmp_path / "whole", clip, on_the_cpu), Run(tmp_path / "stopped", clip, on_cuda)
    settings = {**BASE, "mask": str(mask)}
    whole("keys", **settings)
    with pytest.raises(Interrupted):
        stopped("keys", stop_after=7, **settings)
    assert 0 < len(keys_of(stopped)) < 3
    stopped("keys", **settings)  # goes on from features on disk
    np.testing.assert_array_equal(keys_of(stopped), keys_of(whole))


def test_tensors_of_both_devices_are_refused() -> None:
    with pretended_cuda():
        there = torch.ones(2, device=DEVICE)
        assert isinstance(there + there, Pretended)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2)
        with pytest.raises(RuntimeError, match="same device"):
            torch.where(torch.ones(2, dtype=torch.bool), there, there)
        with pytest.raises(TypeError, match="cuda"):
            there.numpy()
        there[0] += 1
        assert (there.to("cpu") + torch.ones(2)).tolist() == [3, 2]
        assert (torch.ones(2).to(there) + there).device == DEVICE
    assert not torch.cuda.is_initialized()
