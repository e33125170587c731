"""The standalone host: img2img on the original `ldm` code, with the webui's conventions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rerender.diffusion.plan import rehearse
from rerender.errors import RerenderError, UserError
from rerender.host import Attach, ModelCall, OnStep, Rendered, RenderRequest, Sampling
from rerender.hosts.standalone.any_size import fitting_skips
from rerender.hosts.standalone.ddim import ddim_timesteps
from rerender.hosts.standalone.denoiser import CFGDenoiser
from rerender.hosts.standalone.lcm import distilled
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.lora import LoraFolder
from rerender.hosts.standalone.model import LoadReport, Model
from rerender.hosts.standalone.noise import NoiseSource, untouched_random_state
from rerender.hosts.standalone.prompt import take_out_tags
from rerender.hosts.standalone.samplers import Sampler, entry_step, find_sampler, sigma_schedule
from rerender.hosts.standalone.text import TextConditioner
from rerender.hosts.standalone.weights import short_hash

logger = logging.getLogger(__name__)

MAX_STEPS = 150


@dataclass(frozen=True)
class _Plan:
    """What one sampling will do.

    Attributes:
        levels: what the sampler is given: sigmas from the entry on, descending to 0, or ascending timesteps.
        signal, noise: the initial latent is signal·x0 + noise·n.
    """

    sampler: Sampler
    levels: torch.Tensor
    signal: float
    noise: float
    options: dict[str, Any]
    calls: list[ModelCall]


class StandaloneHost:
    """Renders pictures with one checkpoint. Implements `rerender.host.Host`.

    Nothing but names and shapes is read from the files until a part of the model is needed.

    Args:
        model: the opened checkpoint.
        checkpoint, vae: its files, for `identity`.
        lora_dir: where `<lora:name:weight>` looks for files; None: such tags are a mistake.
        noise_on_device: draw noise on the model's device (the webui's default) instead of on the CPU.
    """

    def __init__(
        self,
        model: Model,
        checkpoint: Path,
        vae: Path | None = None,
        *,
        lora_dir: Path | None = None,
        noise_on_device: bool = False,
    ) -> None:
        self._model = model
        self._checkpoint, self._vae_file = checkpoint, vae
        self._text = TextConditioner(model)
        self._loras = LoraFolder(lora_dir)
        self._noise_on_device = noise_on_device

    @property
    def device(self) -> torch.device:
        """Device of the U-Net."""
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        """float16 on CUDA, else float32."""
        return self._model.dtype

    @property
    def unet(self) -> torch.nn.Module:
        """ldm's UNetModel; read from the file on first use."""
        return self._model.unet

    @property
    def load_report(self) -> LoadReport:
        """Which tensors of the checkpoint were used, not used, missing."""
        return self._model.report

    def identity(self, prompts: Sequence[str] = ()) -> dict[str, str]:
        """Names and short SHA-256 hashes (as the webui shows them) of checkpoint, VAE, and LoRA files in `prompts`.

        Raises:
            UserError: a LoRA file that is named does not exist.
        """
        found = {"checkpoint": self._checkpoint.name, "checkpoint_hash": short_hash(self._checkpoint)}
        yaml = self._checkpoint.with_suffix(".yaml")
        if yaml.is_file():
            found["config_hash"] = short_hash(yaml)
        if self._vae_file is not None:
            found |= {"vae": self._vae_file.name, "vae_hash": short_hash(self._vae_file)}
        tags = [tag for prompt in prompts for tag in take_out_tags(prompt)[1]]
        return found | {f"lora:{name}": self._loras.hash_of(name) for name in sorted({tag.name for tag in tags})}

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Mean of the VAE's posterior. image: (B, 3, H, W) in [-1, 1] → latent (B, 4, H/8, W/8) float32."""
        return self._posterior(image).mean.float() * self._model.config.scale_factor

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (B, 4, h, w) → image (B, 3, 8h, 8w) float32, clamped to [-1, 1].

        Raises:
            RerenderError: the VAE returned values that are no numbers.
        """
        z = latent / self._model.config.scale_factor
        image = self._model.run_vae(lambda vae, dtype: vae.decode(z.to(self.device, dtype)))
        if not bool(torch.isfinite(image).all()):
            raise RerenderError("the VAE returned values that are no numbers", hint="Is its file intact?")
        return image.float().clamp(-1, 1)

    def render(
        self,
        request: RenderRequest,
        *,
        attach: Attach | None = None,
        on_step: OnStep | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Rendered:
        """Render one picture by img2img; see `rerender.host.Host.render`.

        The posterior noise of the encoder is drawn with the request's seed (the webui leaves it to chance).
        """
        _check(request)
        prompt, tags = take_out_tags(request.prompt)
        sampler, schedule = find_sampler(request.sampler, request.scheduler)
        with torch.no_grad(), untouched_random_state(self.device), self._loras.applied(tags, self._model):
            loras = self._loras.combination(tags)
            cond, uncond = (
                self._text.encode(text, request.clip_skip, loras) for text in (prompt, request.negative_prompt)
            )
            x0 = self._initial_latent(request)
            source = self._noise_source(request.seed, x0.shape)
            start_noise = source.draw()
            plan = self._plan(request, sampler, schedule, source)
            denoiser = self._denoiser(sampler, cond, uncond, request.cfg_scale, cancelled)
            x = x0 * plan.signal + start_noise * plan.noise
            latent = self._sample(plan, denoiser, x, x0, attach, on_step)
        if not bool(torch.isfinite(latent).all()):
            raise RerenderError(
                "the U-Net returned values that are no numbers", hint="Try full precision (precision fp32)."
            )
        return Rendered(_to_picture(self.decode(latent)), latent)

    def _sample(
        self,
        plan: _Plan,
        denoiser: CFGDenoiser,
        x: torch.Tensor,
        init_latent: torch.Tensor,
        attach: Attach | None,
        on_step: OnStep | None,
    ) -> torch.Tensor:
        sampling = Sampling(
            denoiser=denoiser,
            form=plan.sampler.form,
            alphas_cumprod=self._model.alphas_cumprod,
            calls=plan.calls,
            unet=self._model.unet,
            multistep=plan.sampler.multistep,
            init_latent=init_latent,
        )

        def callback(info: dict[str, Any]) -> None:
            if on_step is not None:
                on_step(int(info["i"]) + 1, sampling.steps)

        with fitting_skips(load_ldm().openaimodel), attach(sampling) if attach is not None else nullcontext():
            return plan.sampler.resolve()(denoiser, x, plan.levels, callback=callback, disable=True, **plan.options)

    def _plan(self, request: RenderRequest, sampler: Sampler, schedule: str, source: NoiseSource) -> _Plan:
        entry = entry_step(request.steps, request.denoising_strength)
        if sampler.form == "timestep":
            return self._timestep_plan(sampler, request.steps, entry)
        return self._sigma_plan(sampler, schedule, request.steps, entry, source)

    def _timestep_plan(self, sampler: Sampler, steps: int, entry: int) -> _Plan:
        alphas = self._model.alphas_cumprod
        timesteps = ddim_timesteps(steps)
        levels = timesteps[:entry]
        alpha = float(alphas[int(timesteps[entry])])
        options = {"alphas_cumprod": alphas}
        function = sampler.resolve()
        calls = rehearse(function, levels, to_sigma=_sigma_of_timestep(alphas.cpu()), **options) if entry else []
        return _Plan(sampler, levels, alpha**0.5, (1 - alpha) ** 0.5, options, calls)

    def _sigma_plan(self, sampler: Sampler, schedule: str, steps: int, entry: int, source: NoiseSource) -> _Plan:
        alphas = self._model.alphas_cumprod.cpu()
        alphas = distilled(alphas) if sampler.is_consistency else alphas
        discrete = load_ldm().k_external.DiscreteSchedule(_sigmas(alphas), False)
        sigmas = sigma_schedule(sampler, schedule, steps, discrete)
        levels = sigmas[steps - entry - 1 :]
        options: dict[str, Any] = dict(sampler.options)
        rehearsal = dict(options)
        if sampler.noise != "none":
            options["noise_sampler"] = source.ancestral() if sampler.noise == "ancestral" else source.brownian(sigmas)
            rehearsal["noise_sampler"] = lambda sigma, sigma_next: torch.zeros(1, 1, 1, 1)
        calls = rehearse(sampler.resolve(), levels, **rehearsal)
        return _Plan(sampler, levels.to(self.device), 1.0, float(levels[0]), options, calls)

    def _denoiser(
        self,
        sampler: Sampler,
        cond: torch.Tensor,
        uncond: torch.Tensor,
        cfg_scale: float,
        cancelled: Callable[[], bool] | None,
    ) -> CFGDenoiser:
        return CFGDenoiser(
            self._model.unet,
            self._model.alphas_cumprod,
            parameterization=self._model.parameterization,
            form=sampler.form,
            consistency=sampler.is_consistency,
            cond=cond,
            uncond=uncond,
            cfg_scale=cfg_scale,
            dtype=self.dtype,
            cancelled=cancelled,
        )

    def _noise_source(self, seed: int, shape: torch.Size) -> NoiseSource:
        on_device = self._noise_on_device and self.device.type != "mps"
        return NoiseSource(seed, shape, self.device, self.device if on_device else torch.device("cpu"))

    def _initial_latent(self, request: RenderRequest) -> torch.Tensor:
        if request.initial_latent is not None:
            return request.initial_latent.to(self.device, torch.float32)
        posterior = self._posterior(_to_image(request.picture))
        mean, std = posterior.mean.float(), posterior.std.float()
        generator = torch.Generator().manual_seed(request.seed)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return (mean + std * noise) * self._model.config.scale_factor

    def _posterior(self, image: torch.Tensor) -> Any:
        return self._model.run_vae(lambda vae, dtype: vae.encode(image.to(self.device, dtype)))


def _check(request: RenderRequest) -> None:
    shape = request.picture.shape
    if request.picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise UserError(f"The init picture must be uint8 RGB (H, W, 3), not {request.picture.dtype} {shape}.")
    if shape[0] % 8 or shape[1] % 8 or not shape[0] or not shape[1]:
        raise UserError(f"The init picture is {shape[1]}×{shape[0]}; both sides must be multiples of 8.")
    if not 1 <= request.steps <= MAX_STEPS:
        raise UserError(f"steps is {request.steps}; it must lie between 1 and {MAX_STEPS}.")
    if not 0 <= request.denoising_strength <= 1:
        raise UserError(f"denoising_strength is {request.denoising_strength}; it must lie between 0 and 1.")
    if request.clip_skip < 1:
        raise UserError(f"clip_skip is {request.clip_skip}; it must be at least 1.")
    if request.initial_latent is not None and tuple(request.initial_latent.shape[2:]) != (shape[0] // 8, shape[1] // 8):
        raise UserError(f"initial_latent has the shape {tuple(request.initial_latent.shape)}, which fits no {shape}.")


def _sigmas(alphas: torch.Tensor) -> torch.Tensor:
    return ((1 - alphas) / alphas) ** 0.5


def _sigma_of_timestep(alphas: torch.Tensor) -> Callable[[float], float]:
    sigmas = _sigmas(alphas)
    return lambda timestep: float(sigmas[int(timestep)])


def _to_image(picture: np.ndarray) -> torch.Tensor:
    image = torch.tensor(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()  # a copy: may be read-only
    return image / 255.0 * 2 - 1


def _to_picture(image: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] → uint8 (H, W, 3); fractions are cut off, as the webui does."""
    values = ((image[0].float() + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return (255.0 * values).astype(np.uint8)
