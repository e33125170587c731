"""Sampling for sample sheets, straight from the parts in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rerender.hosts.standalone.ldm_import import load_ldm
from tools.train_demo_model.model import alphas_cumprod
from tools.train_demo_model.unet import Denoiser


class Guided(nn.Module):
    """Classifier-free guidance over the denoiser, in the form that k-diffusion's samplers call."""

    def __init__(self, model: Denoiser, cond: Tensor, uncond: Tensor, scale: float) -> None:
        super().__init__()
        alphas = alphas_cumprod()
        self.model, self.scale = model, scale
        self.context = torch.cat([cond, uncond])
        self.log_sigmas = ((1 - alphas) / alphas).sqrt().log()

    def forward(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        """Denoised x."""
        index = torch.searchsorted(self.log_sigmas, sigma.log()).clamp(1, 999)
        low, high = self.log_sigmas[index - 1], self.log_sigmas[index]
        t = index - 1 + ((sigma.log() - low) / (high - low)).clamp(0, 1)
        s = sigma.view(-1, 1, 1, 1)
        both = torch.cat([x / (1 + s**2).sqrt()] * 2)
        cond, uncond = self.model(both, t.float().repeat(2), self.context).chunk(2)
        return x - s * (uncond + self.scale * (cond - uncond))


def schedule(steps: int, strength: float = 1.0) -> Tensor:
    """Noise levels of a run of `steps` steps, of which the last `strength` are walked; ends with 0."""
    alphas = alphas_cumprod()
    sigmas = ((1 - alphas) / alphas).sqrt()
    t = torch.linspace(999, 0, steps)
    levels = torch.cat([sigmas[t.round().long()], torch.zeros(1)])
    return levels[steps - max(1, round(steps * strength)) :]


@torch.no_grad()
def sample(
    model: Denoiser,
    cond: Tensor,
    uncond: Tensor,
    start: Tensor,
    scale: float = 2.5,
    steps: int = 20,
    strength: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """DPM++ 2M from `start` (scaled latents (B, 4, h, w); zeros for txt2img) plus noise."""
    levels = schedule(steps, strength)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
    guided = Guided(model, cond, uncond, scale)
    out: Tensor = load_ldm().k_sampling.sample_dpmpp_2m(guided, start + levels[0] * noise, levels, disable=True)
    return out
