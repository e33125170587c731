"""Masked rendering: outside a mask the estimate is the source's own latent, at every step.

As in latent inpainting, but on x̂0 and with the noise estimate kept, so that it is one more edit for any sampler: what
is inside is always rendered against the source it will be laid on.
"""

from __future__ import annotations

import torch

from rerender.diffusion.edits import Constraint
from rerender.host import ModelCall


class KeepSource(Constraint):
    """x̂0 ← style · x̂0 + (1 - style) · source.

    Args:
        source: latent of the source, (1, 4, h, w).
        style: (h, w) in [0, 1], 1 where the picture is rendered.
    """

    def __init__(self, source: torch.Tensor, style: torch.Tensor) -> None:
        self.source, self.style = source, style

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> torch.Tensor:
        """The mixing, at every step."""
        return torch.lerp(self.source.to(x0), x0, self.style.to(x0))
