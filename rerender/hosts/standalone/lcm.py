"""Latent consistency models: their sampler, and how their network's answer becomes a picture.

Luo, Tan, Huang, Li, Zhao, Latent Consistency Models, 2023: the network is distilled at 50 of the 1000 timesteps, and
its answer is f(x, t) = c_skip·x + c_out·x̂0, so that f(x, 0) = x.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

SKIP = 20
"""Training timesteps between two that the network was distilled at: 19, 39 … 999."""
_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0


def distilled(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The values at the timesteps the network was distilled at. (1000,) → (50,)."""
    return alphas_cumprod[SKIP - 1 :: SKIP]


def boundary(x: torch.Tensor, x0: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """f(x, t) = c_skip·x + c_out·x̂0 (appendix C of the consistency models' paper). x, x0: (B, 4, h, w); t: (B,)."""
    scaled = timestep.to(x)[:, None, None, None] * _TIMESTEP_SCALING
    total = scaled**2 + _SIGMA_DATA**2
    return scaled / total.sqrt() * x0 + _SIGMA_DATA**2 / total * x


@torch.no_grad()
def sample_lcm(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    noise_sampler: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """Multistep consistency sampling (algorithm 1 of the paper): to the picture, and back to the next noise level.

    Args:
        model: `model(x, sigma)` → f(x, t); sigma: (B,).
        x: (B, 4, h, w) at the first level.
        sigmas: descending, the last is 0.
        noise_sampler: `noise_sampler(sigma, sigma_next)` → new noise like x.
    """
    batch = x.new_ones(x.shape[0])
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        x0 = model(x, sigma * batch, **(extra_args or {}))
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigma, "denoised": x0})
        x = x0 + following * noise_sampler(sigma, following) if following > 0 else x0
    return x
