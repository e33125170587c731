"""Detail fusion: what the autoencoder loses, brought back after the last decoding (our own extension).

Pixel-aware fusion pulls the *latent* to the warped references, so what comes out has gone through the autoencoder once
more, and every later step of the sampler has rewritten its texture. But what a visible area should look like is known
to the pixel: it was rendered already. So the decoded picture D takes the reference's pixels W, in two bands, each as
far as the flow is good enough for it (Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics,
ACM TOG 1983, blend by bands likewise):

    D_k    = D_{k-1} + s · (coarse · L + fine · (W_k - D_{k-1} - L))    k: previous key frame, then the anchor; D_0 = D
    L      = G_2(U · (W_k - D_{k-1})) / G_2(U)                          s: strength; G_2: Gaussian of 2 px
    coarse = G_2(S(U · A; 0.1, 0.5))          A = agreement · inkless   S: smoothstep
    fine   = S(V · A · evenness; 0.2, 0.7)    V, U, agreement, inkless, evenness: see `gates`

Where the new picture differs on purpose, or the reference shows something else, D and W disagree, and D stays; so it
does where the reference may hold ink of an outline that has moved on. Where the flow tears (at the outlines of what
moves) or swirls (in flat areas), the warp is right to a few pixels: good enough for structure coarser than that, while
fine texture would be cut off or wrinkled, and stays D's. Zones are wide where coarse bands are mixed and small where
textures are, since the mean of two textures is a blur.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rerender.arrays.smoothstep import smoothstep
from rerender.motion.flow import FloatArray
from rerender.motion.warp import warp
from rerender.translate.frames import Link
from rerender.translate.gates import agreement, evenness, inkless, masked_smooth, smooth, usability, visibility

BAND_SIGMA = 2.0
"""Pixels: what a Gaussian of this size leaves is the coarse band; flow at outlines is off by about as much."""


def fuse_detail(
    picture: np.ndarray, source: np.ndarray, links: Sequence[Link], *, strength: float, tolerance: float
) -> np.ndarray:
    """Lay the pixels of the references over a finished picture, where they show the same thing.

    Args:
        picture: uint8 RGB (H, W, 3).
        source: the frame it was rendered from, uint8 RGB (H, W, 3).
        links: the references, the one that lies on top last.
        strength: weight of the references where all agrees, in [0, 1].
        tolerance: disagreement in 8-bit levels at which `agreement` is 1/e, above 0.

    Returns:
        uint8 RGB (H, W, 3).
    """
    decoded = picture.astype(np.float32)
    fused = decoded
    for link in links:
        flow = steady(link.correspondence.flow)
        warped = warped_levels(link.reference.picture, flow)
        usable = usability(source, link.reference.source, flow, link.correspondence.hidden)
        alike = agreement(decoded, warped, usable, tolerance) * inkless(source, link.reference.source, flow)
        coarse = coarse_weight(usable, alike)
        fine = fine_weight(visibility(link.correspondence.hidden), alike, evenness(flow))
        fused = mix_bands(fused, warped, usable, np.float32(strength) * coarse, np.float32(strength) * fine)
    return np.clip(np.rint(fused), 0, 255).astype(np.uint8)


def steady(flow: FloatArray) -> FloatArray:
    """The flow without its ripples, edges kept (bilateral filter, 1.5 px of motion, 5 px of picture); (H, W, 2)."""
    padded = np.dstack([flow, np.zeros_like(flow[..., 0])])  # OpenCV takes one or three channels
    smoothed = cv2.bilateralFilter(padded, -1, 1.5, 5.0, borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(smoothed[..., :2], np.float32)


def warped_levels(picture: np.ndarray, flow: FloatArray) -> FloatArray:
    """uint8 RGB (H, W, 3) carried along the flow, float32 in 8-bit levels; bicubic, which keeps the finest texture."""
    return np.asarray(np.clip(warp(picture.astype(np.float32), flow, "bicubic"), 0, 255), np.float32)


def coarse_weight(usable: FloatArray, alike: FloatArray) -> FloatArray:
    """Weight of the coarse band, (H, W) in [0, 1], with edges as wide as the band's structure."""
    return smooth(smoothstep(usable * alike, 0.1, 0.5), BAND_SIGMA)


def fine_weight(visible: FloatArray, alike: FloatArray, even: FloatArray) -> FloatArray:
    """Weight of the fine band, (H, W) in [0, 1]."""
    return smoothstep(visible * alike * even, 0.2, 0.7)


def mix_bands(
    fused: FloatArray, warped: FloatArray, usable: FloatArray, coarse: FloatArray, fine: FloatArray
) -> FloatArray:
    """B: both bands moved from `fused` to `warped` by their weights. Pictures (H, W, 3), the others (H, W)."""
    difference = warped - fused
    far = masked_smooth(difference, usable, BAND_SIGMA)
    return np.asarray(fused + coarse[..., None] * far + fine[..., None] * (difference - far), np.float32)
