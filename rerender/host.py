"""The host protocol: everything the method needs from whatever runs Stable Diffusion.

A host renders one picture with img2img and lets the method attach hooks for the time of that one sampling. There
are two hosts (`rerender.hosts`): the standalone one on the original `ldm` code, and the webui. The method imports
neither; it sees only the types of this file.

Conventions
    picture   uint8 RGB array (H, W, 3), H and W multiples of 8
    image     float tensor (B, 3, H, W) in [-1, 1]
    latent    float tensor (B, 4, H/8, W/8), scaled by the model's scale factor (0.18215 for SD1/SD2)
    sigma     noise level of the form y = x0 + sigma·n
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:  # the types alone: planning and propagation know hosts without loading torch
    import torch


@dataclass(frozen=True)
class RenderRequest:
    """One img2img rendering, in the webui's terms.

    Attributes:
        picture: init picture, uint8 RGB (H, W, 3).
        denoising_strength: in [0, 1]; `int(strength · steps)` steps and one more run (webui convention).
        initial_latent: replaces the encoded init picture where given, (1, 4, H/8, W/8).
        extra: host-specific values (webui: ControlNet units, override settings); the method passes them through.
    """

    picture: np.ndarray
    prompt: str
    negative_prompt: str = ""
    sampler: str = "DPM++ 2M"
    scheduler: str = "Automatic"
    steps: int = 20
    cfg_scale: float = 7.5
    denoising_strength: float = 0.75
    seed: int = 0
    clip_skip: int = 1
    initial_latent: torch.Tensor | None = None
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCall:
    """One call of the CFG denoiser, known before sampling starts (see `rerender.diffusion.plan`).

    Attributes:
        step: which of the steps that run the call belongs to, from 0.
        first: whether the call gets the sampler's own latent; a second-order sampler's further calls get a
            temporary one, and edits have no place there.
        sigma: noise level of the call.
    """

    step: int
    first: bool
    sigma: float


@dataclass(frozen=True)
class Sampling:
    """What hooks may hold on to during one sampling. Handed to `attach` before the first model call.

    Attributes:
        denoiser: the CFG denoiser, a module whose first argument is the sampler's own latent (B, 4, h, w) and whose
            second argument is sigma ("sigma" form) or a timestep ("timestep" form), shape (B,). It returns x0 in
            sigma form and the noise estimate eps in timestep form. In-place edits of the first argument reach the
            sampler; a forward hook may replace what is returned.
        form: "sigma": y = x0 + sigma·n (k-diffusion). "timestep": x = sqrt(a)·x0 + sqrt(1-a)·n (DDIM, PLMS, UniPC).
        alphas_cumprod: a of every training timestep, (1000,), float32 or wider.
        calls: the calls that this sampling will make, in order.
        unet: the U-Net module whose attn1 modules the attention hooks live on.
        multistep: whether the sampler keeps earlier denoised results as its history.
        init_latent: the encoded init picture, (1, 4, h, w), where the host has it.
        rows: how many the denoiser makes of one picture at most: 2 with guidance, one more for each further prompt that
            is composed with the first.
    """

    denoiser: torch.nn.Module
    form: Literal["sigma", "timestep"]
    alphas_cumprod: torch.Tensor
    calls: Sequence[ModelCall]
    unet: torch.nn.Module
    multistep: bool
    init_latent: torch.Tensor | None = None
    rows: int = 2

    @property
    def steps(self) -> int:
        """Number of steps that run."""
        return self.calls[-1].step + 1 if self.calls else 0


@dataclass(frozen=True)
class Rendered:
    """What a host gives back: the picture, uint8 RGB (H, W, 3), and the latent it was decoded from."""

    picture: np.ndarray
    latent: torch.Tensor


Attach = Callable[[Sampling], AbstractContextManager[None]]
OnStep = Callable[[int, int], None]


class Host(Protocol):
    """What runs Stable Diffusion. Implementations: `rerender.hosts.standalone`, `rerender.hosts.webui`."""

    @property
    def device(self) -> torch.device:
        """Device of the U-Net while it runs."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the U-Net's activations."""

    @property
    def unet(self) -> torch.nn.Module:
        """The live U-Net module (`ldm` or `sgm` UNetModel)."""

    def identity(self, prompts: Sequence[str] = ()) -> dict[str, str]:
        """Names and hashes of checkpoint, VAE, and the LoRA files that `prompts` name.

        What must be equal for a result to be reusable.

        Raises:
            UserError: a LoRA file that is named does not exist (where the host does not report that itself).
        """

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Mean of the VAE's posterior. image: (B, 3, H, W) in [-1, 1] → latent (B, 4, H/8, W/8)."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """latent: (B, 4, h, w) → image (B, 3, 8h, 8w), clamped to [-1, 1]."""

    def render(
        self,
        request: RenderRequest,
        *,
        attach: Attach | None = None,
        on_step: OnStep | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Rendered:
        """Render one picture by img2img.

        Deterministic for equal requests on the same machine; leaves the global random state as it was.

        Args:
            request: what to render.
            attach: entered around the sampling (after the latent is made, before the first model call) and left
                right after it, also on an exception; it carries all hooks of the method.
            on_step: called after each step with (steps done, steps that run).
            cancelled: asked before each model call; once it says yes, `Interrupted` is raised.

        Raises:
            Interrupted: `cancelled` said yes.
            UserError: a request the host cannot serve (unknown sampler, picture of a wrong size, …).
        """
