"""What a frame shows that another one does not: visibility from flow and colour, at pixel and latent size.

Forward–backward consistency alone marks half of a flat area as hidden, where flow is arbitrary and harmless, so
a second opinion comes from colour: what looks the same after the warp is no hole, what looks different is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.motion.flow import FloatArray, FlowEstimator, FlowPair, UInt8Array, bidirectional
from rerender.motion.warp import downscale_flow, edge_blocks, valid_mask, warp

BoolArray = NDArray[np.bool_]

LATENT_FACTOR = 8


@dataclass(frozen=True)
class OcclusionRule:
    """Thresholds of ``hidden``; the defaults were tuned on scenes with exact truth (docs/motion.md)."""

    relative: float = 0.01
    """Part of the flow's length by which forward and backward flow may disagree."""
    absolute: float = 0.5
    """Pixels by which they may disagree beyond that."""
    same_colour: float = 4.0
    """Colour distance (0 to 255) up to which a pixel in a flat area counts as the same thing."""
    other_colour: float = 24.0
    """Colour distance above which a pixel counts as another thing, whatever the flow says."""
    flat: float = 12.0
    """Contrast (0 to 255) in a 5×5 neighbourhood up to which an area is flat."""


@dataclass(frozen=True)
class Correspondence:
    """How the current frame maps onto a reference: warp(reference, flow) looks like the current frame."""

    flow: FloatArray
    """Current → reference, (H, W, 2) in pixels."""
    occlusion: FloatArray
    """(H, W) in [0, 1]: 1 where the reference does not show what the current frame shows; soft edges."""
    latent_flow: FloatArray
    """``flow`` at latent size, (⌈H/8⌉, ⌈W/8⌉, 2), in latent pixels."""
    latent_mask: FloatArray
    """M, (⌈H/8⌉, ⌈W/8⌉) in [0, 1]: 1 in cells that are visible in the reference as a whole."""

    @property
    def visible_share(self) -> float:
        """Mean visibility in [0, 1]."""
        return float(1.0 - self.occlusion.mean(dtype=np.float64))


def correspond(
    estimator: FlowEstimator,
    current: UInt8Array,
    reference: UInt8Array,
    rule: OcclusionRule | None = None,
) -> Correspondence:
    """Flow, occlusion and their latent-size forms; current and reference are uint8 RGB (H, W, 3)."""
    pair = bidirectional(estimator, current, reference)
    soft = soften(hidden(current, reference, pair, rule))
    return Correspondence(
        flow=pair.forward,
        occlusion=soft,
        latent_flow=downscale_flow(pair.forward, LATENT_FACTOR),
        latent_mask=latent_mask(soft),
    )


def visibility(
    current: UInt8Array, reference: UInt8Array, pair: FlowPair, rule: OcclusionRule | None = None
) -> FloatArray:
    """How far the reference shows what the current frame shows, float32 (H, W) in [0, 1], soft at the edges.

    pair: forward = current → reference, backward = reference → current.
    """
    return 1.0 - soften(hidden(current, reference, pair, rule))


def hidden(current: UInt8Array, reference: UInt8Array, pair: FlowPair, rule: OcclusionRule | None = None) -> BoolArray:
    """True where the current frame shows what the reference does not, (H, W); arguments of ``visibility``.

    Hidden is what (a) lies outside the reference, or (b) has another colour there, or (c) has inconsistent
    flows, unless the area is flat and the colours agree.
    """
    rule = rule or OcclusionRule()
    distance = colour_distance(current, warp(reference, pair.forward))
    harmless = (distance <= rule.same_colour) & (contrast(current) <= rule.flat)
    inconsistent = flow_disagreement(pair.forward, pair.backward) > flow_tolerance(pair, rule)
    found: BoolArray = ~valid_mask(pair.forward) | (distance > rule.other_colour) | (inconsistent & ~harmless)
    return found


def flow_disagreement(forward: FloatArray, backward: FloatArray) -> FloatArray:
    """|forward(p) + backward(p + forward(p))| in pixels, (H, W); 0 for exact flow of visible points."""
    return _length(forward + warp(backward, forward))


def flow_tolerance(pair: FlowPair, rule: OcclusionRule) -> FloatArray:
    """Allowed disagreement, (H, W) pixels: relative · (|forward| + |backward|) + absolute."""
    lengths = _length(pair.forward) + _length(warp(pair.backward, pair.forward))
    return rule.relative * lengths + np.float32(rule.absolute)


def colour_distance(current: UInt8Array, warped: UInt8Array) -> FloatArray:
    """How far a pixel lies outside the colours around it in the warped picture, channel mean, 0 to 255.

    The range of a 3×3 neighbourhood forgives errors of a pixel, which at edges would drown everything else.
    Smoothed over 3×3 against noise. (H, W, 3) uint8 → (H, W) float32.
    """
    around = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(warped, around), cv2.dilate(warped, around)
    outside = cv2.max(cv2.subtract(current, high), cv2.subtract(low, current))
    return cv2.blur(outside.mean(axis=2, dtype=np.float32), (3, 3))


def contrast(picture: UInt8Array, size: int = 5) -> FloatArray:
    """Greatest difference of a channel within size × size pixels, (H, W, 3) uint8 → (H, W) in 0 to 255."""
    around = np.ones((size, size), np.uint8)
    return (cv2.dilate(picture, around) - cv2.erode(picture, around)).max(axis=2).astype(np.float32)


def soften(occluded: BoolArray | FloatArray) -> FloatArray:
    """clamp(blur9(maxpool9(occ)) + occ, 0, 1): grown by 4 px, with a soft rim. (H, W) → float32 (H, W)."""
    sharp = np.asarray(occluded, dtype=np.float32)
    grown = cv2.dilate(sharp, np.ones((9, 9), np.uint8))
    return np.clip(cv2.blur(grown, (9, 9), borderType=cv2.BORDER_REPLICATE) + sharp, 0.0, 1.0)


def latent_mask(soft: FloatArray, factor: int = LATENT_FACTOR) -> FloatArray:
    """M = 1 - maxpool(soft): a cell is as visible as its worst pixel. (H, W) → (⌈H/8⌉, ⌈W/8⌉)."""
    mask: FloatArray = 1.0 - edge_blocks(soft, factor).max(axis=(1, 3))
    return mask


def _length(flow: FloatArray) -> FloatArray:
    return np.hypot(flow[..., 0], flow[..., 1])
