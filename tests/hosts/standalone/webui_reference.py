"""Runs in the Python of a webui 1.10.1: renders cases with the webui itself, for `test_equal_to_webui`.

python webui_reference.py WEBUI_DIR CHECKPOINT CASES.json RESULTS.npz DATA_DIR
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

FLAGS = [
    "--skip-prepare-environment",
    "--skip-python-version-check",
    "--skip-torch-cuda-test",
    "--skip-version-check",
    "--use-cpu",
    "all",
    "--no-half",
    "--no-download-sd-model",
    "--do-not-download-clip",
]


def start_webui(folder: str, checkpoint: str, data: str) -> None:
    """Start the webui as a library; what it writes goes to `data`."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    places = ["--data-dir", data, "--ckpt-dir", str(Path(checkpoint).parent), "--ckpt", checkpoint]
    sys.argv = ["launch.py", *FLAGS, *places]
    import modules.launch_utils  # noqa: F401  (reads the flags)
    from modules import initialize

    initialize.imports()
    initialize.check_versions()
    initialize.initialize()


def render(case: dict[str, Any]) -> Any:
    """One img2img picture, uint8 (H, W, 3)."""
    import numpy as np
    import torch
    from modules import processing, shared
    from PIL import Image

    shared.opts.data["CLIP_stop_at_last_layers"] = case["clip_skip"]
    picture = np.array(case["picture"], np.uint8)
    p = processing.StableDiffusionProcessingImg2Img(
        sd_model=shared.sd_model,
        init_images=[Image.fromarray(picture)],
        prompt=case["prompt"],
        negative_prompt=case["negative_prompt"],
        sampler_name=case["sampler"],
        scheduler=case["scheduler"],
        steps=case["steps"],
        cfg_scale=case["cfg_scale"],
        denoising_strength=case["denoising_strength"],
        seed=case["seed"],
        width=picture.shape[1],
        height=picture.shape[0],
        do_not_save_samples=True,
        do_not_save_grid=True,
    )
    p.scripts = None
    torch.manual_seed(case["seed"])  # the webui leaves the noise of the VAE's posterior to chance
    return np.array(processing.process_images(p).images[0])


def main() -> None:
    folder, checkpoint, cases, results, data = sys.argv[1:]
    start_webui(folder, checkpoint, data)
    import numpy as np
    import torch
    from modules import shared

    torch.set_num_threads(1)
    assert shared.sd_model is not None  # loading it draws random numbers
    np.savez(results, *[render(case) for case in json.loads(Path(cases).read_text())])
    os._exit(0)  # the webui's threads would keep the process


if __name__ == "__main__":
    main()
