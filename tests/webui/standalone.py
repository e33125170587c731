"""The same run on the standalone host, to compare with."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rerender.hosts.standalone import load_host
from rerender.motion.flow import flow_estimator
from rerender.pipeline import prepare, run_stage
from rerender.project import Project
from rerender.settings import make_settings
from rerender.translate import Translator
from tests.webui.place import CHECKPOINT, ROOT

CHECKPOINT_FILE = ROOT / "models" / f"{CHECKPOINT}.safetensors"


def standalone_keys(
    video: Path, settings: Mapping[str, Any], folder: Path, lora_dir: Path | None = None
) -> list[np.ndarray]:
    """Key frames, uint8 RGB (H, W, 3) each, in order."""
    with Project(folder) as project:
        host = load_host(CHECKPOINT_FILE, device="cpu", lora_dir=lora_dir)
        run = prepare(project, video, make_settings(dict(settings)), host=host)
        run_stage(run, "keys", folder / "unused.mp4")
        return [project.key_picture(frame) for frame in run.plan.keys]


def standalone_translation(
    checkpoint: Path, pictures: Sequence[np.ndarray], *, mask: np.ndarray | None = None, **settings: Any
) -> list[np.ndarray]:
    """The pictures as key frames, one after the other, without a pipeline around them."""
    host, rendered = load_host(checkpoint, device="cpu"), []
    with Translator(host, make_settings(settings), flow_estimator("dis")) as translator:
        for number, picture in enumerate(pictures):
            render = translator.render_first if number == 0 else translator.render_next
            rendered.append(render(number, picture, mask=mask).picture)
    return rendered


def opened(png: bytes) -> np.ndarray:
    """uint8 RGB (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def mean_differences(found: list[np.ndarray], expected: list[np.ndarray]) -> list[float]:
    """Mean absolute difference of each pair of pictures, in 255ths."""
    pairs = zip(found, expected, strict=True)
    return [float(np.abs(one.astype(int) - other.astype(int)).mean()) for one, other in pairs]
