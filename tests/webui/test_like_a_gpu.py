"""Key frames as on a GPU, as far as a CPU can show it: in half precision, and on a device of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.webui.inside import Inside
from tests.webui.place import FULL_PRECISION, with_full_path
from tests.webui.standalone import mean_differences
from tools.make_tiny_checkpoint import make_tiny_checkpoint

pytestmark = pytest.mark.timeout(1200)

CUDA_AUTOCAST = Path(__file__).parent / "cuda_autocast"
PRECISIONS: dict[str, dict[str, Any]] = {
    "full": {"precision": FULL_PRECISION},
    "half": {"precision": ("--precision", "half")},
    "autocast": {"precision": (), "extensions": (CUDA_AUTOCAST,)},
    "autocast, VAE in full": {"precision": ("--no-half-vae",), "extensions": (CUDA_AUTOCAST,)},
}


def start(webui: Path, data: Path, precision: str) -> Inside:
    """A webui with a tiny checkpoint, whose half precision a CPU can bear."""
    checkpoint = make_tiny_checkpoint(data / "models" / "Stable-diffusion")
    config = checkpoint.with_suffix(".yaml")
    config.write_text(with_full_path(config.read_text(), checkpoint.parent, "tiny"))
    return Inside(webui, data, options={"sd_model_checkpoint": checkpoint.name}, **PRECISIONS[precision])


@pytest.fixture(scope="module", params=[name for name in PRECISIONS if name != "full"])
def halved(request: pytest.FixtureRequest, webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with start(webui, tmp_path_factory.mktemp("half"), request.param) as running:
        yield running


@pytest.fixture(scope="module")
def in_full(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[np.ndarray]]]:
    """Key frames in full precision, by sampler."""
    folder = tmp_path_factory.mktemp("full")
    with start(webui, folder, "full") as running:
        yield lambda sampler: translated(running, folder / "full.npy", sampler)


def translated(running: Inside, path: Path, sampler: str) -> list[np.ndarray]:
    running("save_translation", path=str(path), sampler=sampler)
    return list(np.load(path))


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "DDIM"])
def test_key_frame_without_constraints_is_plain_img2img(halved: Inside, sampler: str) -> None:
    found = halved("same_as_plain", sampler=sampler)
    assert found["bare"]
    assert found["hooked"]


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M SDE", "Heun", "DDIM", "UniPC"])
def test_constraints_do_the_same_in_half_precision(
    halved: Inside, in_full: Callable[[str], list[np.ndarray]], sampler: str, tmp_path: Path
) -> None:
    found = translated(halved, tmp_path / "half.npy", sampler)
    assert max(mean_differences(found, in_full(sampler))) < 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "Euler"},
        {"sampler": "DPM++ 2M SDE", "passes": "shared"},
        {"sampler": "DDIM", "attention_memory": "host", "attention_tokens": "checkerboard"},
    ],
    ids=["Euler", "shared", "bank in main memory"],
)
def test_nothing_in_main_memory_is_mixed_with_what_is_on_a_gpu(inside: Inside, settings: dict[str, Any]) -> None:
    assert inside("checks_cuda.difference_to_the_cpu", **settings) == 0
