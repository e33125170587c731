"""Flow over many frames: followed from frame to frame, and checked against the flow measured in one step.

Over the distance of two key frames motion is often too large to be measured at once. Steps between neighbours are
small, but their errors add up. Each pixel takes whichever of the two explains its surroundings better.
"""

from __future__ import annotations

import numpy as np

from rerender.motion.flow import FloatArray, FlowEstimator, FlowPair, FusingEstimator, UInt8Array, bidirectional
from rerender.motion.matching import Matcher
from rerender.motion.occlusion import Correspondence, OcclusionRule, correspondence
from rerender.motion.warp import compose_flow


class FlowChain:
    """Correspondence to a reference frame, carried along the clip; keeps two frames and two flows, however long.

    Example:
        >>> chain = FlowChain(flow_estimator(), frames[0])
        >>> for frame in frames[1:10]:
        ...     chain.advance(frame)
        >>> chain.correspond()  # between frame 9 and frame 0
    """

    def __init__(self, estimator: FlowEstimator, reference: UInt8Array) -> None:
        self._estimator = estimator
        self._reference = self._current = reference
        still = np.zeros((*reference.shape[:2], 2), np.float32)
        self._chained = FlowPair(forward=still, backward=still)
        self._steps = 0

    def advance(self, frame: UInt8Array, step: FlowPair | None = None) -> None:
        """Go on to the next frame of the clip: two flows between neighbours.

        step: flow frame → current (forward) and back (`step_flow`), where it is known already.
        """
        step = step or step_flow(self._estimator, frame, self._current)
        self._chained = FlowPair(
            forward=compose_flow(step.forward, self._chained.forward),
            backward=compose_flow(self._chained.backward, step.backward),
        )
        self._current = frame
        self._steps += 1

    def pair(self) -> FlowPair:
        """Flow current → reference (forward) and reference → current (backward)."""
        if self._steps and isinstance(self._estimator, FusingEstimator):
            return self._estimator.fuse(self._current, self._reference, [self._chained])
        if self._steps < 2:
            return self._chained
        direct = bidirectional(self._estimator, self._current, self._reference)
        return FlowPair(
            forward=better_flow(self._current, self._reference, direct.forward, self._chained.forward),
            backward=better_flow(self._reference, self._current, direct.backward, self._chained.backward),
        )

    def correspond(self, rule: OcclusionRule | None = None) -> Correspondence:
        """Flow and masks between the frame reached last (current) and the reference."""
        return correspondence(self._current, self._reference, self.pair(), rule)


def better_flow(reference: UInt8Array, target: UInt8Array, first: FloatArray, second: FloatArray) -> FloatArray:
    """Per pixel the flow reference → target that fits better around it (`matching.Matcher`); ``first`` where equal."""
    return Matcher(reference, target).best([first, second])[0]


def step_flow(estimator: FlowEstimator, frame: UInt8Array, before: UInt8Array) -> FlowPair:
    """One step of a chain, frame → before (forward) and back; by the proposer, where the estimator judges later."""
    return bidirectional(estimator.proposer if isinstance(estimator, FusingEstimator) else estimator, frame, before)
