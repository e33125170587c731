"""The CFG denoiser: what a sampler calls, and what the method's hooks sit on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from rerender.errors import Interrupted, UserError
from rerender.hosts.standalone.any_size import fitting_skips
from rerender.hosts.standalone.lcm import SKIP, boundary, distilled
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.precision import autocast


class CFGDenoiser(nn.Module):
    """Classifier-free guidance (Ho & Salimans 2022) around one U-Net, in either form of `rerender.host.Sampling`.

    Conditional rows come first, then unconditional ones, in one U-Net call where both prompts have as many chunks,
    else in two calls in the same order.

    Args:
        unet: `unet(x, t, context=…)` → what it predicts.
        alphas_cumprod: (1000,).
        parameterization: "eps" or "v", what the U-Net predicts.
        form: "sigma": forward(y, sigma) → x0. "timestep": forward(x, t) → eps.
        consistency: the U-Net is a latent consistency model that predicts noise ("sigma" form only).
        cond, uncond: conditioning, (1, T, C) each.
        dtype: of the U-Net's weights; float16 runs it under autocast.
        cancelled: asked before each call.

    Raises (forward):
        Interrupted: `cancelled` said yes.
    """

    def __init__(
        self,
        unet: nn.Module,
        alphas_cumprod: torch.Tensor,
        *,
        parameterization: str,
        form: Literal["sigma", "timestep"],
        cond: torch.Tensor,
        uncond: torch.Tensor,
        cfg_scale: float,
        dtype: torch.dtype = torch.float32,
        consistency: bool = False,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.cfg_scale = cfg_scale
        self._alphas_cumprod = alphas_cumprod
        self._conds = (cond, uncond)
        self._dtype = dtype
        self._cancelled = cancelled
        if consistency:
            self._predict = self._consistency_form(parameterization)
        else:
            make = self._sigma_form if form == "sigma" else self._timestep_form
            self._predict = make(parameterization)

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """x: (B, 4, h, w), level: (B,) sigma or timestep → the guided x0 or eps, (B, 4, h, w)."""
        if self._cancelled is not None and self._cancelled():
            raise Interrupted
        both = self._predict(torch.cat([x, x]), torch.cat([level, level]))
        cond, uncond = both.chunk(2)
        return uncond + (cond - uncond) * self.cfg_scale

    def _sigma_form(self, parameterization: str) -> Callable[..., torch.Tensor]:
        # k-diffusion's own wrappers, so that rounding is the webui's as well.
        external = load_ldm().k_external
        wrapper = external.DiscreteVDDPMDenoiser if parameterization == "v" else external.DiscreteEpsDDPMDenoiser
        return wrapper(self._unet_rows, self._alphas_cumprod, quantize=False)

    def _consistency_form(self, parameterization: str) -> Callable[..., torch.Tensor]:
        if parameterization != "eps":
            raise UserError("The sampler LCM needs a model that predicts noise.", hint="Choose another sampler.")
        alphas = distilled(self._alphas_cumprod)
        log_sigmas = ((1 - alphas) / alphas).sqrt().log()

        def predict(y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            nearest = (sigma.log()[None] - log_sigmas[:, None]).abs().argmin(0)
            timestep, level = nearest * SKIP + SKIP - 1, sigma[:, None, None, None]
            x0 = y - level * self._unet_rows(y / (level**2 + 1).sqrt(), timestep)
            return boundary(y, x0, timestep)

        return predict

    def _timestep_form(self, parameterization: str) -> Callable[..., torch.Tensor]:
        if parameterization == "v":
            return self._eps_from_v
        return self._unet_rows

    def _eps_from_v(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha = self._alphas_cumprod[t.long()][:, None, None, None]
        return alpha.sqrt() * self._unet_rows(x, t) + (1 - alpha).sqrt() * x

    def _unet_rows(self, x: torch.Tensor, t: torch.Tensor, **_: Any) -> torch.Tensor:
        cond, uncond = self._conds
        rows = x.shape[0] // 2
        with autocast(x.device, self._dtype), fitting_skips(load_ldm().openaimodel):
            if cond.shape[1] == uncond.shape[1]:
                context = torch.cat([cond.expand(rows, -1, -1), uncond.expand(rows, -1, -1)])
                return self.unet(x, t, context=context).to(x.dtype)
            outs = [
                self.unet(x_part, t_part, context=context.expand(rows, -1, -1))
                for x_part, t_part, context in zip(x.chunk(2), t.chunk(2), self._conds, strict=True)
            ]
        return torch.cat(outs).to(x.dtype)
