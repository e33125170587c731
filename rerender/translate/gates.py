"""How far a warped reference may be followed, pixel by pixel: visible, alike, agreeing, even, free of old ink.

All are (H, W) in [0, 1]:

V         = 1 - G_1.5(max3(hidden))                   G_s: Gaussian of s pixels, max3: largest of 3×3
U         = max(V, V(outside) · exp(-(c / 8)²))       c = G_2(mean over channels |source - warped source|)
agreement = exp(-(d / tolerance)²)                    d = max over channels |G_4(U·(W - D)) / G_4(U)|
evenness  = G_1.5(min3(exp(-(|J - G_8(J)|)²)))        J: Jacobian of the flow, Frobenius norm
inkless   = min5(1 - S(mean3(max(o_W - max5(o), 0)); 30, 90))   o, o_W: `outline_picture` of the source, and of the
            reference's source, warped                               S: smoothstep; min5, max5: of 5×5 pixels
"""

from __future__ import annotations

import cv2
import numpy as np

from rerender.motion.flow import FloatArray, UInt8Array
from rerender.motion.occlusion import BoolArray, match_light
from rerender.motion.warp import valid_mask, warp
from rerender.outlines import outline_picture, same_outlines

CELL_SIGMA = 4.0
"""Pixels: the scale at which pictures must agree, half a latent cell."""

RIM_SIGMA = 1.5
"""Pixels: softness of the edges of the weights."""

AROUND_SIGMA = 8.0
"""Pixels: the surroundings whose distortion is even (a zoom or a turn distorts too, but everywhere alike)."""

UNEVEN = 1.0
"""Deviation of the flow's Jacobian (pixels a pixel) at which its evenness is 1/e."""

COLOUR_SIGMA = 2.0
"""Pixels: the scale at which the sources' colours are compared."""

ALIKE = 8.0
"""Difference of the sources' colours in 8-bit levels at which their likeness is 1/e."""


INK_AROUND = 5
"""Pixels, two to each side: how far an outline may lie beside the flow, and its ink beside the outline."""


def visibility(hidden: BoolArray) -> FloatArray:
    """V, (H, W) in [0, 1]: 0 where the reference does not show the frame and one pixel around, with a soft rim."""
    grown = cv2.dilate(hidden.astype(np.float32), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(1.0 - smooth(grown, RIM_SIGMA), 0, 1), np.float32)


def usability(source: UInt8Array, reference: UInt8Array, flow: FloatArray, hidden: BoolArray) -> FloatArray:
    """U, (H, W) in [0, 1]: 1 where the reference shows the frame, or where what it shows looks the same.

    A place that is hidden may still have the colours that the flow finds, in flat areas above all: nothing speaks
    against taking coarse structure from there.

    source, reference: source frames of the running key frame and of the reference, uint8 RGB (H, W, 3).
    """
    warped = match_light(warp(reference, flow), source, ~hidden)
    distance = smooth(np.mean(cv2.absdiff(source, warped), axis=2, dtype=np.float32), COLOUR_SIGMA)
    alike = np.exp(-((distance / np.float32(ALIKE)) ** 2)) * visibility(~valid_mask(flow))
    return np.maximum(visibility(hidden), alike)


def agreement(decoded: FloatArray, warped: FloatArray, usable: FloatArray, tolerance: float) -> FloatArray:
    """How far two pictures are alike when looked at from afar, (H, W) in [0, 1].

    decoded, warped: (H, W, 3) in 8-bit levels; usable: (H, W) in [0, 1], how far a pixel counts.
    """
    distance = np.abs(masked_smooth(warped - decoded, usable, CELL_SIGMA)).max(axis=2)
    return np.asarray(np.exp(-((distance / np.float32(tolerance)) ** 2)), np.float32)


def evenness(flow: FloatArray) -> FloatArray:
    """How far the motion around a pixel is one motion, (H, W) in [0, 1]: 1 for any affine one, 0 where it tears."""
    if min(flow.shape[:2]) < 2:
        return np.ones(flow.shape[:2], np.float32)
    along_y, along_x = np.gradient(flow, axis=(0, 1))
    jacobian = np.concatenate([along_x, along_y], axis=2).astype(np.float32)
    deviation = np.linalg.norm(jacobian - smooth(jacobian, AROUND_SIGMA), axis=2)
    even = np.exp(-((deviation / np.float32(UNEVEN)) ** 2))
    least = cv2.erode(even, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return smooth(least, RIM_SIGMA)


def inkless(source: UInt8Array, reference: UInt8Array, flow: FloatArray) -> FloatArray:
    """Where no outline has been that is gone, and could have left its ink, (H, W) in [0, 1].

    Outside of its object an outline lies on background: the flow and the colours of the sources are the background's
    there, and would lay old ink over it. The other way round, where an outline has come, the pictures disagree.

    source, reference: as for `usability`.
    """
    around = np.ones((INK_AROUND, INK_AROUND), np.uint8)
    gone = np.maximum(warp(outline_picture(reference), flow) - cv2.dilate(outline_picture(source), around), 0)
    return np.asarray(cv2.erode(same_outlines(gone), around), np.float32)


def smooth(values: np.ndarray, sigma: float) -> FloatArray:
    """Gaussian of `sigma` pixels, edges repeated; float32 (H, W) or (H, W, C)."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def masked_smooth(values: FloatArray, weight: FloatArray, sigma: float) -> FloatArray:
    """Gaussian mean over what `weight` (H, W) counts: G(weight · values) / G(weight); values (H, W, C)."""
    share = np.maximum(smooth(weight, sigma), np.float32(1e-3))
    return np.asarray(smooth(weight[..., None] * values, sigma) / share[..., None], np.float32)
