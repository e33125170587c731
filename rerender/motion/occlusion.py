"""What a frame shows that another one does not: visibility from flow and colour, at pixel and latent size.

Forward–backward consistency alone marks half of a flat area as hidden, where flow is arbitrary and harmless. Here
three witnesses vote: colour (does the warped reference look like the current frame?), coverage (does the reference
send anything to this place? occluded places get nothing: Wang et al., CVPR 2018) and consistency of the flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.motion.flow import FloatArray, FlowEstimator, FlowPair, UInt8Array, bidirectional
from rerender.motion.warp import downscale_flow, edge_blocks, valid_mask, warp

BoolArray = NDArray[np.bool_]

LATENT_FACTOR = 8


@dataclass(frozen=True)
class OcclusionRule:
    """Thresholds of ``hidden``; the defaults were tuned on scenes with exact truth (docs/motion.md).

    The three colour distances (0 to 255) say how much a pixel must look different to count as hidden: least where
    nothing covers it, more where the flows disagree, most where nothing but colour speaks against it.
    """

    relative: float = 0.01
    """Part of the flow's length by which forward and backward flow may disagree."""
    absolute: float = 0.5
    """Pixels by which they may disagree beyond that."""
    covered: float = 0.7
    """Part of the usual coverage below which a pixel counts as not reached by anything."""
    colour_if_uncovered: float = 0.25
    colour_if_inconsistent: float = 8.0
    colour_alone: float = 24.0


@dataclass(frozen=True)
class Correspondence:
    """How the current frame maps onto a reference: warp(reference, flow) looks like the current frame."""

    flow: FloatArray
    """Current → reference, (H, W, 2) in pixels."""
    occlusion: FloatArray
    """(H, W) in [0, 1]: 1 where the reference does not show what the current frame shows; soft edges."""
    hidden: BoolArray
    """(H, W): the same without the rim, exact to the pixel as far as it can be found out."""
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
    return correspondence(current, reference, bidirectional(estimator, current, reference), rule)


def correspondence(
    current: UInt8Array, reference: UInt8Array, pair: FlowPair, rule: OcclusionRule | None = None
) -> Correspondence:
    """``correspond`` for flow that is known already; pair as in ``visibility``."""
    sharp = hidden(current, reference, pair, rule)
    soft = soften(sharp)
    return Correspondence(
        flow=pair.forward,
        occlusion=soft,
        hidden=sharp,
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

    Where the colours agree nothing is hidden, except what lies outside the reference.
    """
    rule = rule or OcclusionRule()
    outside = ~valid_mask(pair.forward)
    inconsistent = inconsistent_flow(pair, rule)
    uncovered = coverage(pair.backward) < rule.covered * usual_coverage(pair.forward)
    warped = match_light(warp(reference, pair.forward), current, ~(outside | inconsistent))
    distance = colour_distance(current, warped)
    found: BoolArray = (
        (uncovered & (distance > rule.colour_if_uncovered))
        | (inconsistent & (distance > rule.colour_if_inconsistent))
        | (distance > rule.colour_alone)
    )
    # A lone pixel is noise, and would hide four latent cells: the majority of 5×5 decides.
    return outside | (cv2.medianBlur(found.astype(np.uint8), 5) > 0)


def inconsistent_flow(pair: FlowPair, rule: OcclusionRule) -> BoolArray:
    """Where the flows contradict each other, (H, W): |forward(p) + backward(p + forward(p))| is more than allowed.

    Allowed are relative · (|forward| + |backward|) + absolute pixels. Exact flow of visible points gives 0.
    """
    back = warp(pair.backward, pair.forward)
    allowed = rule.relative * (_length(pair.forward) + _length(back)) + np.float32(rule.absolute)
    return _length(pair.forward + back) > allowed


def coverage(backward: FloatArray) -> FloatArray:
    """How much of the reference lands on each pixel of the current frame, (H, W); about 1 where it is visible.

    Every pixel of the reference spreads a weight of 1 over the four pixels where ``backward`` (reference →
    current) takes it; the sum is smoothed over 3×3.
    """
    height, width = backward.shape[:2]
    whole = np.floor(backward)
    fraction = backward - whole
    x = np.arange(width)[None, :] + whole[..., 0].astype(np.int64)
    y = np.arange(height)[:, None] + whole[..., 1].astype(np.int64)
    total = np.zeros(height * width)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - dx - fraction[..., 0]) * np.abs(1 - dy - fraction[..., 1])
        inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
        index = (y + dy) * width + x + dx
        total += np.bincount(index[inside], weight[inside], minlength=height * width)
    return _mean(total.reshape(height, width).astype(np.float32), 3)


def usual_coverage(forward: FloatArray) -> FloatArray:
    """Coverage that the motion around a pixel leaves, (H, W), at most 1: below it where the reference is stretched.

    The area that a pixel takes in the reference, det(1 + ∇forward), as the median over 61×61 pixels: a hole, where
    flow is squeezed, must not excuse itself.
    """
    if min(forward.shape[:2]) < 2:
        return np.ones(forward.shape[:2], np.float32)
    along_x, along_y = np.diff(forward, axis=1)[:-1], np.diff(forward, axis=0)[:, :-1]
    area = (1 + along_x[..., 0]) * (1 + along_y[..., 1]) - along_x[..., 1] * along_y[..., 0]
    levels = np.clip(np.rint(area * 128), 0, 255).astype(np.uint8)  # only bytes have a median over large windows
    usual = np.asarray(cv2.medianBlur(levels, 61), np.float32) / 128
    return np.minimum(np.pad(usual, ((0, 1), (0, 1)), mode="edge"), 1)


def match_light(warped: UInt8Array, current: UInt8Array, trusted: BoolArray) -> UInt8Array:
    """Bring a warped picture to the light of the current one, so that a lamp is not taken for a hole.

    One gain per channel and place: the ratio of the means over 41×41 of the trusted pixels, 0.5 to 2.
    """
    weight = np.repeat(trusted.astype(np.float32)[..., None], 3, axis=2)  # written out: much quicker to multiply by
    target, source = _mean(current * weight, 41), _mean(warped * weight, 41)
    gain = np.clip((target + 1) / (source + 1), 0.5, 2.0)
    return np.clip(np.rint(warped * gain), 0, 255).astype(np.uint8)


def colour_distance(current: UInt8Array, warped: UInt8Array) -> FloatArray:
    """How far a pixel lies outside the colours around it in the warped picture, channel mean, 0 to 255.

    The range of a 3×3 neighbourhood forgives errors of a pixel, which at edges would drown everything else.
    Smoothed over 3×3 against noise. (H, W, 3) uint8 → (H, W) float32.
    """
    around = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(warped, around), cv2.dilate(warped, around)
    outside = cv2.max(cv2.subtract(current, high), cv2.subtract(low, current))
    return _mean(np.mean(outside, axis=2, dtype=np.float32), 3)


def soften(occluded: BoolArray | FloatArray) -> FloatArray:
    """clamp(blur9(maxpool9(occ)) + occ, 0, 1): grown by 4 px, with a soft rim. (H, W) → float32 (H, W)."""
    sharp = np.asarray(occluded, dtype=np.float32)
    grown = cv2.dilate(sharp, np.ones((9, 9), np.uint8))
    return np.clip(_mean(grown, 9) + sharp, 0.0, 1.0)


def latent_mask(soft: FloatArray, factor: int = LATENT_FACTOR) -> FloatArray:
    """M = 1 - maxpool(soft): a cell is as visible as its worst pixel. (H, W) → (⌈H/8⌉, ⌈W/8⌉)."""
    mask: FloatArray = 1.0 - edge_blocks(soft, factor).max(axis=(1, 3))
    return mask


def _length(flow: FloatArray) -> FloatArray:
    return np.hypot(flow[..., 0], flow[..., 1])


def _mean(values: NDArray[Any], size: int) -> FloatArray:
    blurred = cv2.blur(values, (size, size), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)
