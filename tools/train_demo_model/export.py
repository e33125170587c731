"""Write the checkpoint, its webui configuration and the tokeniser's folder."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml
from safetensors.torch import save_file

from tools.train_demo_model import autoencoder, unet
from tools.train_demo_model.latents import normalise_latents
from tools.train_demo_model.model import CLIP_FOLDER, checkpoint_weights, webui_config
from tools.train_demo_model.tokenizer import write_tokenizer

log = logging.getLogger(__name__)

NAME = "rerender-demo"
MOST_BYTES = 40_000_000


def export(run: Path, models: Path) -> Path:
    """Write `models`/rerender-demo.safetensors, .yaml and -clip/ from the runs kept in `run`; returns the first.

    Works at any time of a training: it takes the averaged weights last saved.
    """
    first_stage = autoencoder.averaged(run / "autoencoder.pt")
    normalise_latents(first_stage)
    denoiser = unet.averaged(run / "unet.pt")
    weights = checkpoint_weights({"autoencoder": first_stage, "unet": denoiser.unet, "clip": denoiser.clip})
    models.mkdir(parents=True, exist_ok=True)
    path = models / f"{NAME}.safetensors"
    save_file(weights, path, metadata={"format": "pt", "license": "MIT", "title": "Rerender demo model"})
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise RuntimeError(f"{path} has {size} bytes, more than {MOST_BYTES}")
    (models / f"{NAME}.yaml").write_text(yaml.safe_dump(webui_config(), sort_keys=False))
    write_tokenizer(models / CLIP_FOLDER)
    log.info("wrote %s: %.1f MB, %d tensors", path, size / 1e6, len(weights))
    return path
