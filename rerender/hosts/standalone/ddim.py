"""DDIM in the timestep form, with the webui's choice of timesteps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def ddim_timesteps(steps: int) -> torch.Tensor:
    """Ascending timesteps of a run of `steps` steps: every 1000 // steps, plus one, at most 999."""
    return torch.clip(torch.arange(0, 1000, 1000 // steps) + 1, 0, 999)


@torch.no_grad()
def sample_ddim(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    timesteps: torch.Tensor,
    *,
    alphas_cumprod: torch.Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with η = 0).

    As in the webui the lowest timestep is only a target, so n timesteps make n - 1 model calls, and the result keeps
    the noise of timesteps[0].

    Args:
        model: `model(x, t)` → the noise estimate; t: (B,).
        x: (B, 4, h, w) at the level of the timestep above the highest one given (the webui's img2img), or at it.
        timesteps: ascending, integer.
        alphas_cumprod: of every training timestep.
    """
    alphas = alphas_cumprod.cpu()[timesteps.cpu()].double()  # MPS has no float64
    batch = x.new_ones(x.shape[0])
    for i, index in enumerate(range(len(timesteps) - 1, 0, -1)):
        a_t, a_prev = float(alphas[index]), float(alphas[index - 1])
        eps = model(x, float(timesteps[index]) * batch, **(extra_args or {}))
        x0 = (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5
        if callback is not None:
            callback({"x": x, "i": i, "denoised": x0})
        x = a_prev**0.5 * x0 + (1 - a_prev) ** 0.5 * eps
    return x
