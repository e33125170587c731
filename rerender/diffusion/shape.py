"""Shape-aware latent fusion: coarse shapes of the anchor, carried along by flow (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rerender.diffusion.edits import Constraint
from rerender.diffusion.window import Window
from rerender.host import ModelCall, Sampling


def fuse_shape(x0: torch.Tensor, warped: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """M·warped + (1 - M)·x0. x0, warped: (B, 4, h, w); mask: (h, w) in [0, 1], 1 where the anchor shows it."""
    return mask * warped + (1.0 - mask) * x0


class ShapeFusion(Constraint):
    """Pulls x̂0 to the anchor's x̂0 of the same step.

    Args:
        warped: the anchor's estimates warped onto this frame, by number of the model call, (1, 4, h, w).
        mask: (h, w) visibility of the anchor.
    """

    def __init__(self, window: Window, warped: Mapping[int, torch.Tensor], mask: torch.Tensor) -> None:
        self.window, self.warped, self.mask = window, warped, mask
        self.steps: frozenset[int] = frozenset()

    def begin(self, sampling: Sampling) -> None:
        """Find the steps of the period."""
        self.steps = self.window.steps(sampling)

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> torch.Tensor | None:
        """The fusion, inside the period."""
        if call.step not in self.steps:
            return None
        return fuse_shape(x0, self.warped[index].to(x0), self.mask.to(x0))
