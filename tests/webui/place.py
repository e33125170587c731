"""Where a webui is, how it is started on a CPU, and the folder that it writes to in place of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = "rerender-demo"
FLAGS = [
    *("--skip-prepare-environment", "--skip-python-version-check", "--skip-torch-cuda-test", "--skip-version-check"),
    *("--use-cpu", "all", "--no-download-sd-model", "--do-not-download-clip", "--api"),
]
FULL_PRECISION = ("--no-half",)  # what a CPU renders in, unless told otherwise


def webui_python(webui: Path) -> Path:
    named = os.environ.get("WEBUI_PYTHON")
    place = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return Path(named) if named else webui.joinpath("venv", *place)


def environment() -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    return {**os.environ, **quiet, "OMP_NUM_THREADS": "1"}


def make_data_folder(data: Path, extensions: Iterable[Path] = (), options: Mapping[str, Any] | None = None) -> None:
    """What `--data-dir` may name: this repository and others as extensions, the demo checkpoint, settings.

    Args:
        data: a folder; it may have models in it already.
        options: of the settings file.
    """
    (data / "extensions").mkdir(parents=True)
    (data / "extensions" / "renamed-by-the-user").symlink_to(ROOT)
    for extension in extensions:
        (data / "extensions" / extension.name).symlink_to(extension.resolve())
    (data / "config.json").write_text(json.dumps(dict(options or {})))
    place_checkpoint(data / "models" / "Stable-diffusion")


def place_checkpoint(folder: Path) -> None:
    """The demo checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    source = ROOT / "models"
    (folder / f"{CHECKPOINT}.safetensors").symlink_to(source / f"{CHECKPOINT}.safetensors")
    config = (source / f"{CHECKPOINT}.yaml").read_text(encoding="utf-8")
    (folder / f"{CHECKPOINT}.yaml").write_text(with_full_path(config, source, CHECKPOINT), encoding="utf-8")


def with_full_path(config: str, folder: Path, name: str) -> str:
    """A checkpoint's configuration with the tokeniser's folder named in full, as the webui wants it."""
    named = f"version: {name}-clip"
    assert named in config
    return config.replace(named, f"version: {json.dumps(str(folder / f'{name}-clip'))}")
