"""Detail fusion: what the autoencoder loses, brought back after the last decoding (our own extension).

Pixel-aware fusion pulls the *latent* to the warped references, so what comes out has gone through the autoencoder once
more, and every later step of the sampler has rewritten its texture. But what a visible area should look like is known
to the pixel: it was rendered already. Where the decoded picture D agrees with a warped reference W at the scale of a
latent cell, it takes the reference's pixels:

    D_k = D_{k-1} + strength · w_k · (W_k - D_{k-1})      for the previous key frame, then the anchor; D_0 = D
    w   = S(V · agreement · evenness)                     S: smoothstep from 0.2 to 0.7
    V   = 1 - G_1.5(max3(hidden))                         G_s: Gaussian, max3: largest of 3×3
    agreement = exp(-(d / tolerance)²)                    d = max over channels |G_4(V·(W - D)) / G_4(V)|
    evenness  = G_1.5(min3(exp(-(|J - G_8(J)| / 0.6)²)))  J: Jacobian of the flow, Frobenius norm

Where the new picture differs on purpose or the reference shows something else, d is large; where the flow tears (at
the outlines of what moves) or swirls, the warp is uneven. There the diffused picture stays. S keeps the zone small
in which both are mixed, since the mean of two textures is a blur.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rerender.motion.flow import FloatArray
from rerender.motion.occlusion import BoolArray
from rerender.motion.warp import warp
from rerender.translate.frames import Link

CELL_SIGMA = 4.0
"""Pixels: the scale at which pictures must agree, half a latent cell."""

RIM_SIGMA = 1.5
"""Pixels: softness of the edges of the weight."""

AROUND_SIGMA = 8.0
"""Pixels: the surroundings whose distortion is even (a zoom or a turn distorts too, but everywhere alike)."""

UNEVEN = 0.6
"""Deviation of the flow's Jacobian (pixels a pixel) at which its evenness is 1/e."""


def fuse_detail(picture: np.ndarray, links: Sequence[Link], *, strength: float, tolerance: float) -> np.ndarray:
    """Lay the pixels of the references over a finished picture, where they show the same thing.

    Args:
        picture: uint8 RGB (H, W, 3).
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
        visible = visibility(link.correspondence.hidden)
        weight = clear_cut(visible * agreement(decoded, warped, visible, tolerance) * evenness(flow))
        fused = fused + np.float32(strength) * weight[..., None] * (warped - fused)
    return np.clip(np.rint(fused), 0, 255).astype(np.uint8)


def steady(flow: FloatArray) -> FloatArray:
    """The flow without its ripples, edges kept (bilateral filter, 1.5 px of motion, 5 px of picture); (H, W, 2)."""
    padded = np.dstack([flow, np.zeros_like(flow[..., 0])])  # OpenCV takes one or three channels
    smoothed = cv2.bilateralFilter(padded, -1, 1.5, 5.0, borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(smoothed[..., :2], np.float32)


def warped_levels(picture: np.ndarray, flow: FloatArray) -> FloatArray:
    """uint8 RGB (H, W, 3) carried along the flow, float32 in 8-bit levels; bicubic, which keeps the finest texture."""
    return np.asarray(np.clip(warp(picture.astype(np.float32), flow, "bicubic"), 0, 255), np.float32)


def visibility(hidden: BoolArray) -> FloatArray:
    """V, (H, W) in [0, 1]: 0 where the reference does not show the frame and one pixel around, with a soft rim."""
    grown = cv2.dilate(hidden.astype(np.float32), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(1.0 - _smooth(grown, RIM_SIGMA), 0, 1), np.float32)


def agreement(decoded: FloatArray, warped: FloatArray, visible: FloatArray, tolerance: float) -> FloatArray:
    """How far two pictures are alike when looked at from afar, (H, W) in [0, 1].

    decoded, warped: (H, W, 3) in 8-bit levels; visible: (H, W) in [0, 1], how far a pixel counts.
    """
    difference = _smooth(visible[..., None] * (warped - decoded), CELL_SIGMA)
    share = np.maximum(_smooth(visible, CELL_SIGMA), np.float32(1e-3))
    distance = np.abs(difference).max(axis=2) / share
    return np.asarray(np.exp(-((distance / np.float32(tolerance)) ** 2)), np.float32)


def evenness(flow: FloatArray) -> FloatArray:
    """How far the motion around a pixel is one motion, (H, W) in [0, 1]: 1 for any affine one, 0 where it tears."""
    if min(flow.shape[:2]) < 2:
        return np.ones(flow.shape[:2], np.float32)
    along_y, along_x = np.gradient(flow, axis=(0, 1))
    jacobian = np.concatenate([along_x, along_y], axis=2).astype(np.float32)
    deviation = np.linalg.norm(jacobian - _smooth(jacobian, AROUND_SIGMA), axis=2)
    even = np.exp(-((deviation / np.float32(UNEVEN)) ** 2))
    least = cv2.erode(even, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return _smooth(least, RIM_SIGMA)


def clear_cut(weight: FloatArray) -> FloatArray:
    """Smoothstep: 0 up to 0.2, 1 from 0.7 on, 3t² - 2t³ between."""
    t = np.clip((weight - np.float32(0.2)) * np.float32(2.0), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _smooth(values: np.ndarray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
