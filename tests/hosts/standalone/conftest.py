"""Fixtures of the standalone host's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rerender.host import RenderRequest
from rerender.hosts.standalone import StandaloneHost, load_host


@pytest.fixture(scope="session")
def host(tiny_checkpoint: Path) -> StandaloneHost:
    return load_host(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def request_of(picture: np.ndarray):
    """A small request; keyword arguments change it."""

    def make(**changes: object) -> RenderRequest:
        fields: dict[str, object] = {"picture": picture, "prompt": "a cat", "steps": 5, "denoising_strength": 0.7}
        return RenderRequest(**{**fields, **changes})  # type: ignore[arg-type]

    return make
