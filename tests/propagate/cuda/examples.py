"""Pictures to synthesise from, small and with some structure."""

from __future__ import annotations

from typing import Any

import numpy as np

from rerender.arrays import HOST, bring
from rerender.propagate import synthesis
from rerender.propagate.cuda import engine
from rerender.propagate.cuda.device import Device
from rerender.propagate.problem import Effort, Guide
from tests.propagate.cuda.conftest import there

EFFORT = Effort(3, 2, radius=6, tolerance=2.0)


def picture(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Soft shapes with some grain: neither constant nor white noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, channels)).repeat(6, 0).repeat(6, 1)
    grain = rng.integers(-20, 20, (height, width, channels))
    return np.clip(coarse[:height, :width] + grain, 0, 255).astype(np.uint8)


def mask(seed: int, height: int, width: int) -> np.ndarray:
    return picture(seed, height, width, 1)[..., 0] > 90


def example(
    channels: int = 3,
    gray: bool = False,
    style_channels: int = 3,
    source: tuple[int, int] = (31, 38),
    target: tuple[int, int] = (36, 27),
    **options: Any,
) -> tuple[np.ndarray, list[Guide], dict[str, Any]]:
    """A style, two guides, and options; `source` and `target` are the (rows, columns) of the pictures."""
    style = picture(0, *source, style_channels)
    guides = [
        Guide(picture(1, *source, channels), picture(2, *target, channels), 6.0),
        Guide(picture(3, *source, 1)[..., 0] / 2.0, picture(4, *target, 1)[..., 0] / 2.0, 0.5, refines=False),
    ]
    return style[..., 0] if gray else style, guides, {"effort": EFFORT, "seed": 3, **options}


def on_gpu(device: Device, style: np.ndarray, guides: list[Guide], **options: Any) -> synthesis.Synthesis:
    """`engine.synthesize` from the host and back."""
    style, guides = there((style, guides))
    arrays = {name: there(value) for name, value in options.items()}
    return bring(engine.synthesize(device, style, guides, **arrays), HOST)
