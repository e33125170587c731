"""The denoiser and its text encoder, trained together on latents."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rerender.evaluate.looks import LOOKS, PHRASES
from tools.train_demo_model.model import LATENT_STD, alphas_cumprod, build_clip, build_unet
from tools.train_demo_model.runs import Average, Checkpoints, learning_rate
from tools.train_demo_model.tokenizer import load_tokenizer, tokenize

log = logging.getLogger(__name__)

LOOK_NAMES = list(LOOKS)
EMPTY_SHARE = 0.1
"""Captions dropped, for classifier-free guidance."""

BRIDGE_SHARE = 0.8
"""Examples noised as img2img noises them, from a photograph; the rest as txt2img does."""

BRIDGE_STRENGTHS = (0.3, 0.7)
"""Denoising strengths that the bridge is trained for."""


@dataclass(frozen=True)
class Batch:
    """One training step: noised latents, timesteps, what to predict, loss weights, captions."""

    x: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor
    captions: list[str]


class Denoiser(nn.Module):
    """U-Net and text encoder under one roof, as one thing to train, average and save."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = build_unet()
        self.clip = build_clip()

    def context(self, tokens: Tensor) -> Tensor:
        """Token ids (B, 77) to what cross attention sees (B, 77, 64), equal prompts encoded once."""
        unique, index = torch.unique(tokens, dim=0, return_inverse=True)
        encoded: Tensor = self.clip(unique).last_hidden_state[index]
        return encoded

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Predicted noise, same shape as x."""
        noise: Tensor = self.unet(x, t, context)
        return noise


def draw(latents: NDArray[np.float16], captions: list[str], rng: np.random.Generator, batch: int, side: int) -> Batch:
    """Noise random latents, as txt2img or as a bridge from photograph to look.

    The bridge is what img2img walks: it starts at photograph + sigma0 noise; a sampler that knew the look would be at
    look + (sigma / sigma0) (photograph - look) + sigma noise on its way, with the "noise" that leads there constant:
    noise + (photograph - look) / sigma0.
    """
    looks, photos, words = _pairs(latents, captions, rng, batch, side)
    alphas = alphas_cumprod()
    sigmas = ((1 - alphas) / alphas).sqrt()
    bridged = torch.from_numpy(rng.random(batch) < BRIDGE_SHARE)
    start = torch.from_numpy((rng.uniform(*BRIDGE_STRENGTHS, batch) * 999).astype(np.int64))
    ceiling = torch.where(bridged, start, torch.tensor(999))
    t = (torch.from_numpy(rng.random(batch)) * (ceiling + 1)).long()
    sigma, sigma0 = (sigmas[index].view(-1, 1, 1, 1) for index in (t, start))
    noise = torch.from_numpy(rng.standard_normal(looks.shape, dtype=np.float32))
    target = noise + torch.where(bridged.view(-1, 1, 1, 1), (photos - looks) / sigma0, torch.tensor(0.0))
    x = (looks + sigma * target) / torch.sqrt(1 + sigma**2)
    snr = LATENT_STD**2 / sigma.flatten() ** 2
    return Batch(x, t, target, snr.clamp(max=5) / snr, words)


def _pairs(
    latents: NDArray[np.float16], captions: list[str], rng: np.random.Generator, batch: int, side: int
) -> tuple[Tensor, Tensor, list[str]]:
    """Crops of looks, the same crops of the photographs, captions."""
    looks, photos, words = [], [], []
    size = latents.shape[-1]
    for _ in range(batch):
        index, look = int(rng.integers(len(latents))), int(rng.integers(len(LOOK_NAMES)))
        top, left = rng.integers((size - side) // 2 + 1, size=2) * 2
        window = np.s_[:, top : top + side, left : left + side]
        looks.append(latents[index, look][window])
        photos.append(latents[index, 0][window])
        caption = f"{PHRASES[LOOK_NAMES[look]]} {captions[index]}"
        if rng.random() < 0.15:  # a look is a look whatever it shows
            caption = PHRASES[LOOK_NAMES[look]].removesuffix(" of")
        words.append("" if rng.random() < EMPTY_SHARE else caption)
    return torch.from_numpy(np.stack(looks)).float(), torch.from_numpy(np.stack(photos)).float(), words


def train(
    latents: NDArray[np.float16],
    captions: list[str],
    path: Path,
    tokenizer_folder: Path,
    steps: int,
    small_share: float = 0.62,
    peak: float = 1e-3,
    device: str = "cpu",
) -> Denoiser:
    """Train, or go on training, the denoiser kept at `path`; returns the averaged weights.

    Args:
        small_share: part of the steps that see crops of 16x16 latents, four times as many as whole ones.
    """
    torch.manual_seed(1)
    model = Denoiser()
    _wake(model.unet)
    model.to(device)
    tokenizer = load_tokenizer(tokenizer_folder)
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-2)
    average = Average(model, 0.998)
    checkpoints = Checkpoints(path)
    state = checkpoints.load()
    step = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average.weights = {name: weight.to(device) for name, weight in state["average"].items()}
        step = state["step"]
    began, first, shown = time.monotonic(), step, 0.0
    while step < steps:
        rng = np.random.default_rng([11, step])
        small = step < small_share * steps
        batch = draw(latents, captions, rng, 16 if small else 6, 16 if small else 32)
        x, t, target, weight = (v.to(device) for v in (batch.x, batch.t, batch.target, batch.weight))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        predicted = model(x, t, model.context(tokenize(tokenizer, batch.captions).to(device)))
        loss = ((predicted - target).square().mean(dim=(1, 2, 3)) * weight).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step)
        shown += loss.item()
        if step % 50 == 0:
            pace = (time.monotonic() - began) / (step - first)
            log.info("unet %d/%d loss %.4f, %.2f s a step", step, steps, shown / 50, pace)
            shown = 0.0
        if checkpoints.due() or step == steps:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoints.save({**state, "average": average.weights, "step": step})
    return averaged(path)


def averaged(path: Path) -> Denoiser:
    """The averaged weights of the run kept at `path`."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model = Denoiser()
    model.load_state_dict(state["average"])
    return model.eval()


@torch.no_grad()
def _wake(unet: nn.Module) -> None:
    """Give the zeroed output convolutions small weights, so that every layer learns from the first step."""
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.any():
            module.weight.normal_(0, 0.02)
