"""The host in half precision, as on a GPU: every constraint gives what it gives in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rerender.evaluate.scenes import scene
from rerender.host import Host
from rerender.hosts import standalone
from rerender.motion.flow import flow_estimator
from rerender.settings import make_settings
from rerender.translate import Translator
from tests.cuda_autocast import widened

BASE: dict[str, Any] = {"prompt": "a face", "steps": 3, "denoising_strength": 0.75, "seed": 1, "flow": "dis_fast"}


@pytest.fixture(scope="module")
def hosts(tiny_checkpoint: Path) -> Iterator[tuple[Host, Host]]:
    """In full and in half precision."""
    with pytest.MonkeyPatch.context() as patch:
        full = standalone.load_host(tiny_checkpoint, device="cpu")
        patch.setattr(standalone, "choose_dtype", lambda precision, device: torch.float16)
        patch.setattr(functional, "group_norm", widened(functional.group_norm))
        patch.setattr(functional, "layer_norm", widened(functional.layer_norm))
        half = standalone.load_host(tiny_checkpoint, device="cpu")
        assert half.dtype == torch.float16
        yield full, half


def key_frames(host: Host, settings: dict[str, Any]) -> np.ndarray:
    chosen = make_settings({**BASE, **settings})
    frames = scene("parallax", seed=1, size=(48, 48), frames=3).frames
    with Translator(host, chosen, flow_estimator(chosen.flow)) as translator:
        keys = [translator.render_first(0, frames[0])]
        keys += [translator.render_next(number, frames[number]) for number in (1, 2)]
    return np.stack([key.picture for key in keys]).astype(int)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampler": "DDIM", "passes": "two_pass", "fidelity_check": True},
        {"sampler": "DPM++ 2M SDE", "passes": "shared", "attention_tokens": "checkerboard"},
        {"sampler": "Heun", "freeu": True, "color_match": True},
    ],
    ids=["default", "two_pass", "shared", "extras"],
)
def test_all_constraints_in_half_precision(hosts: tuple[Host, Host], settings: dict[str, Any]) -> None:
    full, half = (key_frames(host, settings) for host in hosts)
    assert np.abs(full - half).mean() < 1.0
    assert np.abs(full - half).max() > 0  # it was another precision
