"""Flow whose outlines are the picture's: DIS proposes, a guided matching cost decides, trusted flow fills the rest.

DIS tears in bands as wide as its patches around what moves, and swirls where there is nothing to see. Neither is for
want of the right flow: it stands a few pixels away. So (our own composition of published parts)

1. DIS with small patches, both ways; its opposite direction and further flows, where there are some, propose too;
2. each pixel takes the proposal with the least guided cost (`matching.py`), then tries what its neighbours at 12, 6
   and 3 px have, as PatchMatch does (Barnes et al., 2009; Lu et al., *PatchMatch Filter*, CVPR 2013);
3. what both directions agree on, where there is texture, is spread along like colours (`spread.py`) to flat, hidden and
   doubtful areas, which take it unless their own flow fits better by a clear margin (compare EpicFlow, CVPR 2015);
4. variational refinement (Brox et al., ECCV 2004, as OpenCV has it) finds the last fraction of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np

from rerender.motion.flow import DisFlow, FloatArray, FlowEstimator, FlowPair, UInt8Array, bidirectional, check_pair
from rerender.motion.matching import Matcher, replace
from rerender.motion.spread import spread

_NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_FAR, _NEAR = (12, 6, 3), (2,)  # px: before and after the filling
_BONUS, _BONUS_IF_DOUBTFUL = 0.3, 1.0  # levels of cost by which a pixel's own flow must fit better than what is spread
_TEXTURE = 4.0  # least eigenvalue of the structure tensor at which flow is trusted half, levels² a pixel²
_FIT = 8.0  # cost at which trust is down to 1/e
_LEAST_TRUST = 1e-5
_REFINED_LEAST = 16  # px: smaller sides are left as they are by the refinement


@dataclass(frozen=True)
class GuidedFlow:
    """Flow with the outlines of the picture, after OpenCV's DIS.

    `pair` gives both directions for half the price of two calls. The result does not depend on the number of
    threads: equal pictures give equal bits. Safe to call from several threads.

    Attributes:
        proposer: what proposes; also good enough for small steps that `fuse` judges later.
    """

    proposer: FlowEstimator = field(default_factory=lambda: DisFlow(patch_size=4, patch_stride=2))
    thread_safe: ClassVar[bool] = True

    def __call__(self, reference: UInt8Array, target: UInt8Array) -> FloatArray:
        """Flow reference → target, (H, W, 2) float32; both pictures uint8 RGB (H, W, 3) of equal size."""
        return self.pair(reference, target).forward

    def pair(self, a: UInt8Array, b: UInt8Array) -> FlowPair:
        """Flow between ``a`` and ``b`` in both directions."""
        return self.fuse(a, b, ())

    def fuse(self, a: UInt8Array, b: UInt8Array, proposals: Sequence[FlowPair]) -> FlowPair:
        """The same, with further flows to choose from."""
        check_pair(a, b)
        direct = bidirectional(self.proposer, a, b)
        matchers = Matcher(a, b), Matcher(b, a)
        chosen = [
            _choose(matcher, direct[way], direct[1 - way], [each[way] for each in proposals])
            for way, matcher in enumerate(matchers)
        ]
        flows = [flow.copy() for flow, _ in chosen]  # as they are before either is filled
        filled = [_fill(matcher, *chosen[way], flows[1 - way]) for way, matcher in enumerate(matchers)]
        first, second = (matcher.luma.astype(np.uint8) for matcher in matchers)
        return FlowPair(_refine(first, second, filled[0]), _refine(second, first, filled[1]))


def _choose(
    matcher: Matcher, direct: FloatArray, opposite: FloatArray, further: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Steps 1 and 2: the flow that fits best, (H, W, 2), and its cost."""
    flow, cost = matcher.best([direct, *further, -matcher.carry(opposite, direct)])
    _propagate(matcher, flow, cost, _FAR)
    return flow, cost


def _propagate(matcher: Matcher, flow: FloatArray, cost: FloatArray, distances: Sequence[int]) -> None:
    """Let each pixel try the flow of its neighbours at these distances, in place."""
    for distance in distances:
        for dx, dy in _NEIGHBOURS:
            matcher.improve(flow, cost, _shifted(flow, dx * distance, dy * distance))


def _fill(matcher: Matcher, flow: FloatArray, cost: FloatArray, opposite: FloatArray) -> FloatArray:
    """Step 3, in place; `opposite` is the flow the other way, on the pixels of the target."""
    disagreement = _length(flow + matcher.carry(opposite, flow))
    tolerance = np.float32(0.5) + np.float32(0.02) * _length(flow)
    texture = _least_eigenvalue(matcher.luma)
    trust = texture / (texture + np.float32(_TEXTURE)) * np.exp(-((disagreement / tolerance) ** 2) - (cost / _FIT) ** 2)
    usual = spread(flow, (trust + _LEAST_TRUST).astype(np.float32), matcher.reference)
    usual_cost = matcher.cost(usual)
    bonus = np.where(disagreement > 2 * tolerance, _BONUS_IF_DOUBTFUL, _BONUS)
    replace(flow, cost, usual, usual_cost, usual_cost < cost + bonus)
    _propagate(matcher, flow, cost, _NEAR)
    return flow


def _refine(reference: np.ndarray, target: np.ndarray, flow: FloatArray) -> FloatArray:
    """Step 4: five rounds of variational refinement on byte pictures (H, W)."""
    if min(reference.shape) < _REFINED_LEAST:
        return flow
    x, y = (np.ascontiguousarray(flow[..., axis]) for axis in (0, 1))
    cv2.VariationalRefinement.create().calcUV(reference, target, x, y)
    return np.dstack([x, y])


def _shifted(flow: FloatArray, dx: int, dy: int) -> FloatArray:
    """The flow of the pixel at p - (dx, dy); the edge's where there is none."""
    height, width = flow.shape[:2]
    pad = max(abs(dx), abs(dy))
    padded = cv2.copyMakeBorder(flow, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return np.asarray(padded[pad - dy : pad - dy + height, pad - dx : pad - dx + width], np.float32)


def _least_eigenvalue(luma: FloatArray) -> FloatArray:
    """Of the structure tensor over 5×5 pixels, (H, W): large where there is texture in both directions."""
    x, y = (cv2.Sobel(luma, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    xx, yy, xy = (cv2.blur(each, (5, 5)) for each in (x * x, y * y, x * y))
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return np.asarray(np.maximum(least, 0), np.float32)


def _length(flow: FloatArray) -> FloatArray:
    # cv2.magnitude's last bit depends on where arrays lie in memory; these steps are rounded exactly.
    return np.asarray(np.sqrt(flow[..., 0] * flow[..., 0] + flow[..., 1] * flow[..., 1]), np.float32)
