"""Tests against a real webui 1.10.1: set WEBUI_DIR to its folder, and WEBUI_PYTHON where its venv lies elsewhere.

It is started on the CPU with the demo checkpoint and a data folder of its own; nothing is written into its folder but
what any start writes (caches of hashes and compiled Python).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.webui.inside import Inside
from tests.webui.server import Server


def webui_dir() -> Path:
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("WEBUI_DIR names no webui 1.10.1")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def webui() -> Path:
    """The folder of the webui."""
    return webui_dir()


@pytest.fixture(scope="session")
def inside(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Runs a function of checks.py inside the webui and returns its result."""
    with Inside(webui, tmp_path_factory.mktemp("inside")) as running:
        yield running


@pytest.fixture(scope="session")
def server(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for the credentials `Server.user`."""
    with Server(webui, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def clip_frames() -> list[Any]:
    from rerender.evaluate.scenes import scene

    return list(scene("translation", seed=1, size=(128, 128), frames=5).frames)


@pytest.fixture(scope="session")
def clip(clip_frames: list[Any]) -> bytes:
    """A GIF of five frames."""
    frames = [Image.fromarray(frame) for frame in clip_frames]
    stored = io.BytesIO()
    frames[0].save(stored, "GIF", save_all=True, append_images=frames[1:], duration=40)
    return stored.getvalue()
