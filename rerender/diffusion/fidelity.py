"""Fidelity-oriented encoding: a picture's latent without the autoencoder's loss (paper, section 4.2).

One round trip through the autoencoder loses nearly the same each time: x_rr = E(D(E(I))) is to x_r = E(I) what x_r is
to the unknown lossless x. So x ≈ x_r + (x_r - x_rr), except where that makes the picture worse.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn.functional import max_pool2d

THRESHOLD = 0.25
"""Error on the [-1, 1] scale above which a cell keeps its plain encoding."""


class Vae(Protocol):
    """The two halves of an autoencoder, as `rerender.host.Host` has them."""

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] → (B, 4, H/8, W/8)."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, 4, h, w) → (B, 3, 8h, 8w) in [-1, 1]."""


def worsened_cells(image: torch.Tensor, decoded: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """Cells, grown by one, in which a pixel is off by more than `threshold`; (B, 3, H, W) both → (B, 1, H/8, W/8)."""
    off = ((decoded - image).abs().amax(1, keepdim=True) > threshold).to(image.dtype)
    return max_pool2d(max_pool2d(off, 8), 3, stride=1, padding=1)


def fidelity_encode(image: torch.Tensor, vae: Vae, *, verify: bool = True) -> torch.Tensor:
    """Latent of `image` that decodes to it with less loss than E(image) does.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        verify: decode the corrected latent and fall back to E(image) where it is worse by eye; costs one decoding.

    Returns:
        (B, 4, H/8, W/8). Costs two encodings and one decoding, two with `verify`.
    """
    once = vae.encode(image)
    twice = vae.encode(vae.decode(once))
    corrected = once + (once - twice)
    if not verify:
        return corrected
    bad = worsened_cells(image, vae.decode(corrected))
    return torch.where(bad > 0, once, corrected)
