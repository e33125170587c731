"""Pixel-aware latent fusion: texture of what was already rendered, in the middle steps (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import max_pool2d

from rerender.diffusion.edits import Constraint, Mixed
from rerender.diffusion.window import Window
from rerender.host import ModelCall, Sampling

Target = Callable[[torch.Tensor], torch.Tensor]
"""Estimate x̂0 at the first masked step → the latent to pull to, (1, 4, h, w) both."""


def mask_edges(mask: torch.Tensor) -> torch.Tensor:
    """How far a cell touches a hidden one, (h, w) in [0, 1]: the largest 1 - M within 3×3 cells."""
    return max_pool2d((1.0 - mask)[None, None], 3, stride=1, padding=1)[0, 0]


def kept_noise(weight: torch.Tensor, inner: float, edges: torch.Tensor | None) -> torch.Tensor:
    """r: how much of the old noise is kept beside w parts of new noise, (h, w).

    Inside visible areas max(1 - w, inner·sqrt(1 - w²)), which keeps the noise level nearly as it is; at the edges
    of visible areas 1 - w, less noise than the level asks for, which smooths the seam.
    """
    inside = torch.maximum(1.0 - weight, inner * (1.0 - weight**2).sqrt())
    return inside if edges is None else torch.lerp(inside, 1.0 - weight, edges)


def mix(
    x0: torch.Tensor,
    e: torch.Tensor,
    target: torch.Tensor,
    noise: torch.Tensor,
    sigma: float,
    weight: torch.Tensor,
    kept: torch.Tensor,
) -> torch.Tensor:
    """y = w·target + (1 - w)·x̂0 + sigma·(w·n + r·e), all (B, 4, h, w); weight w, kept r: (h, w)."""
    return weight * target + (1.0 - weight) * x0 + sigma * (weight * noise + kept * e)


class PixelFusion(Constraint):
    """Pulls the visible region to a target and renews part of its noise, at each step of the period.

    Where the period holds the very first step there is no earlier estimate to mix with: at that step the new
    estimate itself is pulled to the target, and its noise is left alone.

    Args:
        target: asked once, at the first masked step, with the estimate at hand.
        mask: (h, w) in [0, 1], what any reference shows.
        strength: w where the mask is 1.
        inner: share of the noise level that is kept inside.
        smooth_edges: whether edges of the mask get less noise.
        seed: of the new noise.
    """

    def __init__(
        self,
        window: Window,
        target: Target,
        mask: torch.Tensor,
        *,
        strength: float,
        inner: float,
        smooth_edges: bool,
        seed: int,
    ) -> None:
        self.window, self.make_target = window, target
        self.weight = strength * mask.float()
        self.kept = kept_noise(self.weight, inner, mask_edges(mask.float()) if smooth_edges else None)
        self.seed = seed
        self.steps: frozenset[int] = frozenset()
        self.target: torch.Tensor | None = None

    def begin(self, sampling: Sampling) -> None:
        """Find the steps of the period."""
        self.steps = self.window.steps(sampling)

    def before(self, index: int, call: ModelCall, y: torch.Tensor, x0: torch.Tensor, e: torch.Tensor) -> Mixed | None:
        """The mixing, inside the period."""
        if call.step not in self.steps:
            return None
        target, weight, kept = self.target_for(x0), self.weight.to(x0), self.kept.to(x0)
        mixed = mix(x0, e, target, self.noise(index, y), call.sigma, weight, kept)
        return Mixed(mixed, weight * (target - x0))

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> torch.Tensor | None:
        """The mixing at the first step of all."""
        if call.step != 0 or 0 not in self.steps:
            return None
        return torch.lerp(x0, self.target_for(x0), self.weight.to(x0))

    def target_for(self, x0: torch.Tensor) -> torch.Tensor:
        """The target, made at the first call."""
        if self.target is None:
            self.target = self.make_target(x0).to(x0)
        return self.target

    def noise(self, index: int, like: torch.Tensor) -> torch.Tensor:
        """The same on every machine and for every key frame of equal seed; from the CPU's generator."""
        generator = torch.Generator().manual_seed((self.seed * 1009 + index + 1) % 2**63)
        return torch.randn(like.shape, generator=generator).to(like)
