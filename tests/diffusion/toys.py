"""A Stable Diffusion small enough to reason about: U-Net, autoencoder, host; on the real attention and samplers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from rerender.diffusion.plan import rehearse
from rerender.errors import Interrupted
from rerender.host import Attach, Rendered, RenderRequest, Sampling
from rerender.hosts.standalone.ddim import sample_ddim
from rerender.hosts.standalone.ldm_import import load_ldm

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt()

SAMPLERS = {
    "euler": False,
    "euler_ancestral": False,
    "heun": False,
    "dpm_2": False,
    "dpm_2_ancestral": False,
    "lms": True,
    "dpmpp_2s_ancestral": False,
    "dpmpp_sde": False,
    "dpmpp_2m": True,
    "dpmpp_2m_sde": True,
    "dpmpp_3m_sde": True,
    "ddim": False,
}
"""Name → whether it is a multistep sampler."""


class Upsample(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return interpolate(x, scale_factor=2)


class Downsample(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(x, 2)


class Block(nn.Module):
    """Self-attention over the cells of a picture, as in a BasicTransformerBlock."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj_in, self.proj_out = nn.Linear(channels, width), nn.Linear(width, channels)
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = load_ldm().attention.CrossAttention(width, heads=2, dim_head=width // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.proj_in(x.flatten(2).transpose(1, 2))
        out = self.proj_out(self.attn1(self.norm1(tokens), context=None))
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


class ToyUNet(nn.Module):
    """One level down, attention at both; context (B, 1, 4) shifts the rows."""

    def __init__(self, widths: tuple[int, int] = (16, 8), seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inner, outer = widths
            self.input_blocks = nn.ModuleList([nn.Sequential(Downsample())])
            self.output_blocks = nn.ModuleList(
                [nn.Sequential(Block(4, inner), Upsample()), nn.Sequential(Block(4, outer))]
            )
            for p in self.parameters():
                p.data.mul_(2.0)
        self.requires_grad_(False)
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        self.batches.append(x.shape[0])
        h = x if context is None else x + context.transpose(1, 2)[..., None]
        for block in (*self.input_blocks, *self.output_blocks):
            h = block(h)
        return torch.tanh(h)


class ToyDenoiser(nn.Module):
    """Guidance over a ToyUNet; conditional and unconditional rows together, or in calls of `split` rows."""

    def __init__(
        self, unet: nn.Module, form: str = "sigma", split: tuple[int, ...] = (2,), cancelled: Any = None
    ) -> None:
        super().__init__()
        self.unet, self.form, self.split, self.cancelled = unet, form, split, cancelled
        self.conds = torch.linspace(-0.5, 0.5, sum(split))[:, None, None].expand(-1, 1, 4)

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        if self.cancelled is not None and self.cancelled():
            raise Interrupted
        sigma = float(level[0]) if self.form == "sigma" else float(SIGMAS[int(level[0])])
        y = x if self.form == "sigma" else x * (1 + sigma**2) ** 0.5
        rows = (y / (1 + sigma**2) ** 0.5).expand(sum(self.split), -1, -1, -1)
        parts = zip(rows.split(self.split), self.conds.to(y).split(self.split), strict=True)
        answers = torch.cat([self.unet(part, level, context=cond) for part, cond in parts])
        weights = torch.linspace(1.5, -0.5, sum(self.split)).to(y)
        guided = (answers * (weights / weights.sum())[:, None, None, None]).sum(0, keepdim=True)
        x0 = y / (1 + sigma**2) + guided * sigma / (1 + sigma)
        return x0 if self.form == "sigma" else (y - x0) / sigma


def sampling_plan(name: str, steps: int, skip: int = 0) -> tuple[Any, torch.Tensor, dict[str, Any], list[Any]]:
    """Function, levels, options and calls of the last steps - skip of `steps` steps."""
    if name == "ddim":
        options: dict[str, Any] = {"alphas_cumprod": ALPHAS}
        levels = torch.linspace(10, 981, steps + 1 - skip).long()
        calls = rehearse(sample_ddim, levels, to_sigma=lambda t: float(SIGMAS[int(t)]), **options)
        return sample_ddim, levels, options, calls
    k = load_ldm().k_sampling
    levels = k.get_sigmas_karras(steps, 0.03, 14.6)[skip:]
    function, options = getattr(k, f"sample_{name}"), {}
    if "sde" in name or "ancestral" in name:
        generator = torch.Generator().manual_seed(5)
        options = {"noise_sampler": lambda *_: torch.randn(1, 4, 4, 6, generator=generator)}
    calls = rehearse(function, levels, **({"noise_sampler": lambda *_: torch.zeros(1, 1, 1, 1)} if options else {}))
    return function, levels, options, calls


def make_sampling(name: str, denoiser: nn.Module, calls: list[Any], unet: nn.Module | None = None) -> Sampling:
    return Sampling(
        denoiser=denoiser,
        form="timestep" if name == "ddim" else "sigma",
        alphas_cumprod=ALPHAS,
        calls=calls,
        unet=unet if unet is not None else nn.Identity(),
        multistep=SAMPLERS[name],
    )


class ToyVae:
    """Block means of the colours as latent; decoding smooths a little, so that each round trip loses contrast."""

    loss = 0.12

    def __init__(self) -> None:
        self.encoded = self.decoded = 0

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.encoded += 1
        means = avg_pool2d(image, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], 1)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        self.decoded += 1
        z = latent[:, :3]
        around = avg_pool2d(nn.functional.pad(z, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return interpolate(torch.lerp(z, around, self.loss), scale_factor=8).clamp(-1, 1)


class ToyHost(ToyVae):
    """A host after the protocol of `rerender.host`, with any sampler of SAMPLERS by its k-diffusion name."""

    def __init__(self, split: tuple[int, ...] = (2,)) -> None:
        super().__init__()
        self.unet, self.split = ToyUNet(), split
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.calls_planned = 0

    def identity(self, prompts: Any = ()) -> dict[str, str]:
        return {"checkpoint": "toy"}

    def render(
        self, request: RenderRequest, *, attach: Attach | None = None, on_step: Any = None, cancelled: Any = None
    ) -> Rendered:
        image = torch.from_numpy(request.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        x0 = self.encode(image)
        run = int(min(request.denoising_strength, 0.999) * request.steps) + 1
        generator = torch.Generator().manual_seed(request.seed)
        function, levels, options, calls = sampling_plan(request.sampler, request.steps, request.steps - run)
        if options and request.sampler != "ddim":
            options["noise_sampler"] = lambda *_: torch.randn(x0.shape, generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        denoiser = ToyDenoiser(self.unet, "timestep" if request.sampler == "ddim" else "sigma", self.split, cancelled)
        sampling = make_sampling(request.sampler, denoiser, calls, self.unet)
        sigma = calls[0].sigma if calls else 0.0
        y = x0 + sigma * noise
        x = y if sampling.form == "sigma" else y / (1 + sigma**2) ** 0.5

        def callback(info: dict[str, Any]) -> None:
            if on_step is not None:
                on_step(int(info["i"]) + 1, sampling.steps)

        with attach(sampling) if attach is not None else nullcontext():
            latent = function(denoiser, x, levels, callback=callback, disable=True, **options)
        picture = ((self.decode(latent)[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy().astype(np.uint8)
        return Rendered(picture, latent)
