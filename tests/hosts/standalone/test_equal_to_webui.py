"""Equal settings give the picture that a real webui 1.10.1 gives. Runs where WEBUI_DIR names one.

WEBUI_PYTHON names its Python where that is not in the folder's venv.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from rerender.host import RenderRequest
from rerender.hosts.standalone import load_host
from rerender.hosts.standalone.samplers import SAMPLERS

LONG = ", ".join(["a (detailed:1.3) [old] painting", *(f"(colour:1.1) number {n}" for n in range(25))])
CASES: list[dict[str, object]] = [
    *({"sampler": sampler.name} for sampler in SAMPLERS),
    *({"sampler": "Euler", "scheduler": name} for name in ("Karras", "Exponential", "SGM Uniform", "Simple")),
    {"prompt": LONG, "negative_prompt": "(bad:1.4)"},
    {"prompt": r"a (dog:1.5) BREAK [sky], \(x\)", "negative_prompt": LONG},
    {"clip_skip": 2},
    {"steps": 1},
    {"denoising_strength": 0.0},
    {"denoising_strength": 1.0, "cfg_scale": 3.0},
    {"seed": 123},
    {"picture": (72, 136)},
]


def _requests() -> list[RenderRequest]:
    generator = np.random.default_rng(0)
    base = RenderRequest(
        generator.integers(0, 256, (64, 64, 3), dtype=np.uint8), "a cat", steps=8, denoising_strength=0.6, seed=7
    )
    requests = []
    for case in CASES:
        size = case.get("picture")
        picture = {"picture": generator.integers(0, 256, (*size, 3), dtype=np.uint8)} if size else {}  # type: ignore[misc]
        requests.append(replace(base, **{**case, **picture}))  # type: ignore[arg-type]
    return requests


def _checkpoint_for_webui(tiny: Path, folder: Path) -> Path:
    """A copy whose .yaml names the text encoder's folder by its full path, which the webui needs."""
    path = Path(shutil.copy(tiny, folder))
    content = yaml.safe_load(tiny.with_suffix(".yaml").read_text())
    content["model"]["params"]["cond_stage_config"]["params"]["version"] = str(tiny.with_name("tiny-clip"))
    path.with_suffix(".yaml").write_text(yaml.safe_dump(content))
    return path


def _webui_pictures(webui: Path, checkpoint: Path, requests: list[RenderRequest], folder: Path) -> list[np.ndarray]:
    names = [name for name in vars(requests[0]) if name not in ("picture", "initial_latent", "extra")]
    cases = [{**{n: getattr(r, n) for n in names}, "picture": r.picture.tolist()} for r in requests]
    (folder / "cases.json").write_text(json.dumps(cases))
    (folder / "data").mkdir()
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    python = os.environ.get("WEBUI_PYTHON") or str(webui.joinpath("venv", *inside))
    script = Path(__file__).with_name("webui_reference.py")
    files = [webui, checkpoint, folder / "cases.json", folder / "pictures.npz", folder / "data"]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [python, str(script), *map(str, files)], env={**os.environ, **quiet}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    with np.load(folder / "pictures.npz") as pictures:
        return [pictures[f"arr_{index}"] for index in range(len(requests))]


@pytest.mark.timeout(900)
def test_pictures_are_the_webuis(tiny_checkpoint: Path, tmp_path: Path) -> None:
    named = os.environ.get("WEBUI_DIR")
    if not named:
        pytest.skip("WEBUI_DIR names no webui 1.10.1")
    checkpoint = _checkpoint_for_webui(tiny_checkpoint, tmp_path)
    requests = _requests()
    expected = _webui_pictures(Path(named).resolve(), checkpoint, requests, tmp_path)
    host = load_host(checkpoint, device="cpu")
    for case, request, picture in zip(CASES, requests, expected, strict=True):
        difference = np.abs(host.render(request).picture.astype(int) - picture.astype(int))
        # Rounding on the way may move a value over the edge between two whole numbers.
        assert difference.max() <= 1, case
        assert (difference > 0).mean() < 0.02, case
