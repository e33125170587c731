"""Colour-aware adaptive latent adjustment: AdaIN on x̂0 (paper, section 4.2), over what both frames show.

Statistics of whole pictures shift the colours when the framing changes: a red coat that leaves the picture would make
the rest redder. So mean and deviation are taken where a reference is visible, in both pictures alike. What the anchor
does not show counts as the previous key frame shows it: that is adjusted already, and an adjustment that did not know
of it would be laid over it again in each key frame, until it glares.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rerender.diffusion.edits import Constraint
from rerender.diffusion.window import Window
from rerender.host import ModelCall, Sampling

LEAST_SHARE = 0.05
"""Share of the rendered cells that the references must show; below it the colours are left alone."""


def weighted_statistics(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel, (B, C, 1, 1). x: (B, C, h, w); weight: (h, w), sum > 0."""
    total = weight.sum()
    mean = (x * weight).sum((2, 3), keepdim=True) / total
    variance = ((x - mean) ** 2 * weight).sum((2, 3), keepdim=True) / total
    return mean, variance.sqrt()


def adain(x: torch.Tensor, reference: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(x - mean) / std · std_ref + mean_ref, by channel (Huang & Belongie, 2017, eq. 8).

    Args:
        x: (B, C, h, w), adjusted as a whole.
        reference: (B, C, h, w), aligned with x.
        weight: (h, w) how far a cell counts, for both.
    """
    mean, deviation = weighted_statistics(x, weight)
    target_mean, target_deviation = weighted_statistics(reference, weight)
    return (x - mean) / deviation.clamp_min(1e-5) * target_deviation + target_mean


class ColorAdaIN(Constraint):
    """Gives x̂0 the colour statistics of the references' x̂0 of the same step.

    Args:
        warped: the references' estimates warped onto this frame, by number of the model call, (1, 4, h, w).
        mask: (h, w) where a reference is visible.
        style: (h, w) in [0, 1], 1 where the picture is rendered; only that counts. None is everywhere.
    """

    def __init__(
        self,
        window: Window,
        warped: Mapping[int, torch.Tensor],
        mask: torch.Tensor,
        style: torch.Tensor | None = None,
    ) -> None:
        self.window, self.warped = window, warped
        self.weight = mask if style is None else mask * style
        self.rendered = float(mask.numel() if style is None else style.sum())
        self.steps: frozenset[int] = frozenset()

    def begin(self, sampling: Sampling) -> None:
        """Find the steps of the period; none if the references are hardly visible."""
        seen = float(self.weight.sum())
        visible = seen > 0 and seen >= LEAST_SHARE * self.rendered
        self.steps = self.window.steps(sampling) if visible else frozenset()

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> torch.Tensor | None:
        """The adjustment, inside the period."""
        if call.step not in self.steps:
            return None
        return adain(x0, self.warped[index].to(x0), self.weight.to(x0))
