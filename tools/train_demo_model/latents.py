"""The training pictures as latents, so that a step of the denoiser is nothing but the denoiser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.train_demo_model.autoencoder import POSTERIOR_STD, Components, to_tensor
from tools.train_demo_model.data import Pictures
from tools.train_demo_model.model import LATENT_STD, SCALE_FACTOR


def write_latents(components: Components, pictures: Pictures, path: Path) -> None:
    """Encode all pictures: float16 (N, looks, 4, h, w), standard deviation LATENT_STD on average."""
    count, looks, size = pictures.pixels.shape[:3]
    shape = (count, looks, 4, size // 8, size // 8)
    partial = path.with_suffix(".tmp")
    latents = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    for index in range(count):
        latents[index] = (LATENT_STD * components.latents(to_tensor(pictures.pixels[index]))).half().numpy()
    latents.flush()
    partial.replace(path)


@torch.no_grad()
def normalise_latents(model: Any) -> None:
    """Scale an autoencoder's latents, so that SCALE_FACTOR times their mean is what `write_latents` writes."""
    gain = LATENT_STD / SCALE_FACTOR
    model.quant_conv.weight.mul_(gain)
    model.quant_conv.weight[4:] = 0
    model.quant_conv.bias[4:] = 2 * math.log(POSTERIOR_STD * gain)
    model.post_quant_conv.weight.div_(gain)
