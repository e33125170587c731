"""The webui host: img2img by the webui's own `process_images`, with the method's hooks on its sampler and U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from modules import devices, processing, sd_samplers, sd_samplers_common, sd_vae, shared

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.host import Attach, OnStep, Rendered, RenderRequest
from rerender.hosts.webui.networks import lora_hashes
from rerender.hosts.webui.options import PINNED, pinned_options
from rerender.hosts.webui.processing import make_processing, new_template
from rerender.hosts.webui.random_state import seeded
from rerender.hosts.webui.sampling import hooked_sampling
from rerender.hosts.webui.support import check_model, check_webui


class WebuiHost:
    """Renders with whatever checkpoint the webui has loaded. Implements `rerender.host.Host`.

    The caller holds the webui's queue lock.

    Args:
        template: the user's processing object, with scripts, ControlNet units, styles and the like; None: defaults.

    Attributes:
        infotext: generation parameters of the picture rendered last, as the webui writes them into files.
        comments: what the webui and its extensions remarked on so far, such as a LoRA that there is not.

    Raises:
        Unsupported: this is no webui, or no checkpoint, that the method can work with.
    """

    def __init__(self, template: Any = None) -> None:
        check_webui()
        check_model(shared.sd_model)
        self._template = template if template is not None else new_template()
        self.infotext = ""
        self.comments: list[str] = []

    @property
    def device(self) -> torch.device:
        """Device of the U-Net while it runs; with medvram or lowvram it rests on the CPU in between."""
        return torch.device(devices.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the U-Net's activations."""
        return devices.dtype_inference if devices.dtype_unet in _STORAGE_ONLY else devices.dtype_unet

    @property
    def unet(self) -> torch.nn.Module:
        """The live U-Net; another object after a change of checkpoint."""
        return shared.sd_model.model.diffusion_model

    def identity(self, prompts: Sequence[str] = ()) -> dict[str, str]:
        """Names and short SHA-256 hashes of checkpoint, VAE, and the LoRA files that `prompts` name."""
        model = shared.sd_model
        info = model.sd_checkpoint_info
        found = {"checkpoint": info.name, "checkpoint_hash": model.sd_model_hash or info.hash}
        if sd_vae.get_loaded_vae_name() is not None:
            found |= {"vae": sd_vae.get_loaded_vae_name(), "vae_hash": sd_vae.get_loaded_vae_hash() or ""}
        return found | lora_hashes(prompts)

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Mean of the VAE's posterior. image: (B, 3, H, W) in [-1, 1] → latent (B, 4, H/8, W/8) float32."""
        with _posterior_means(), devices.autocast():
            latents = [
                sd_samplers_common.images_tensor_to_samples((one[None] + 1) / 2, 0, shared.sd_model) for one in image
            ]
        return torch.cat(latents).float()

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (B, 4, h, w) → image (B, 3, 8h, 8w) float32, clamped to [-1, 1].

        Raises:
            RerenderError: the VAE returned values that are no numbers.
        """
        try:
            with _full_decoder():
                images = processing.decode_latent_batch(
                    shared.sd_model, latent.to(self.device, devices.dtype_vae), check_for_nans=True
                )
        except devices.NansException as error:
            raise RerenderError(str(error)) from error
        return torch.stack(list(images)).float().clamp(-1, 1)

    def render(
        self,
        request: RenderRequest,
        *,
        attach: Attach | None = None,
        on_step: OnStep | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Rendered:
        """Render one picture by img2img; see `rerender.host.Host.render`.

        With no hooks the picture is the webui's own, bit for bit, for the same state of the random generators.
        """
        _check(request)
        check_model(shared.sd_model)
        pinned = {**PINNED, "CLIP_stop_at_last_layers": request.clip_skip}
        p = make_processing(self._template, request)
        with pinned_options(shared.opts, pinned), seeded(request.seed, self.device):
            with hooked_sampling(p, attach, on_step, cancelled, request.initial_latent) as record:
                processed = _process(p)
        self.comments = list(dict.fromkeys([*self.comments, *p.comments]))
        if _stopped() or record.latent is None or not processed.images:
            raise Interrupted
        first = processed.index_of_first_image
        self.infotext = processed.infotexts[first] if first < len(processed.infotexts) else ""
        return Rendered(np.asarray(processed.images[first].convert("RGB")), record.latent)


_STORAGE_ONLY = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


def _process(p: Any) -> Any:
    if _stopped():
        raise Interrupted
    # One picture of a run of unknown length: the webui's progress bar must not pass its end.
    shared.state.job_count = max(shared.state.job_count, shared.state.job_no + 1)
    try:
        return processing.process_images(p)
    except BaseException as error:
        # Broken off, it has not told the scripts that it is over: ControlNet would stay on the U-Net.
        if p.scripts is not None:
            p.scripts.postprocess(p, processing.Processed(p, []))
        if isinstance(error, devices.NansException):
            raise RerenderError(str(error)) from error
        raise


def _stopped() -> bool:
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


def _check(request: RenderRequest) -> None:
    shape = request.picture.shape
    if request.picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise UserError(f"The init picture must be uint8 RGB (H, W, 3), not {request.picture.dtype} {shape}.")
    if shape[0] % 8 or shape[1] % 8 or not shape[0] or not shape[1]:
        raise UserError(f"The init picture is {shape[1]}×{shape[0]}; both sides must be multiples of 8.")
    name, _ = sd_samplers.get_sampler_and_scheduler(request.sampler, request.scheduler)
    if name not in request.sampler:  # the webui falls back to its first sampler without a word
        raise UserError(
            f"The webui has no sampler named {request.sampler!r}.",
            hint=f"Known: {', '.join(sampler.name for sampler in sd_samplers.all_samplers)}.",
        )


@contextmanager
def _full_decoder() -> Iterator[None]:
    """The VAE itself, also where the option names a faster approximation."""
    with pinned_options(shared.opts, {"sd_vae_decode_method": "Full"}):
        yield


@contextmanager
def _posterior_means() -> Iterator[None]:
    """Let the VAE's encoder return the mean of its posterior instead of a draw from it."""
    from ldm.modules.distributions import distributions as ldm_distributions
    from sgm.modules.distributions import distributions as sgm_distributions

    classes = [module.DiagonalGaussianDistribution for module in (ldm_distributions, sgm_distributions)]
    originals = [kind.sample for kind in classes]
    for kind in classes:
        kind.sample = kind.mode
    try:
        yield
    finally:
        for kind, original in zip(classes, originals, strict=True):
            kind.sample = original
