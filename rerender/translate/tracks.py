"""How the running frame maps onto each reference: flow followed through every frame between key frames.

Over the distance of two key frames motion is often too large to be measured at once (see docs/motion.md), so the
source frames that are not rendered are followed too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.motion.chain import FlowChain, step_flow
from rerender.motion.flow import FlowEstimator, FlowPair
from rerender.motion.occlusion import Correspondence


@dataclass
class _Track:
    chain: FlowChain
    picture: np.ndarray
    at: int
    found: Correspondence | None = None


class Tracks:
    """One flow chain for each reference, by the reference's frame number. Keeps two frames and two flows for each."""

    def __init__(self, estimator: FlowEstimator) -> None:
        self._estimator = estimator
        self._tracks: dict[int, _Track] = {}

    def begin(self, index: int, source: np.ndarray) -> None:
        """Follow from a reference on, where it is not followed yet."""
        if index not in self._tracks:
            self._tracks[index] = _Track(FlowChain(self._estimator, source), source, index)

    def keep(self, *indices: int) -> None:
        """Drop the chains of all other references."""
        self._tracks = {index: track for index, track in self._tracks.items() if index in indices}

    @property
    def reached(self) -> int | None:
        """The frame from which on frames are still wanted: how far the hindmost chain has come."""
        return min((track.at for track in self._tracks.values()), default=None)

    def follow(self, index: int, picture: np.ndarray) -> None:
        """Carry every chain that has not come so far to source frame `index`, uint8 RGB (H, W, 3)."""
        steps: dict[int, FlowPair] = {}  # chains that stand at the same frame share the flow of the step
        for track in self._tracks.values():
            if track.at >= index:
                continue
            if track.at not in steps:
                steps[track.at] = step_flow(self._estimator, picture, track.picture)
            track.chain.advance(picture, steps[track.at])
            track.picture, track.at, track.found = picture, index, None

    def prepare(self) -> None:
        """Work out `correspond` for every reference that is followed, before it is asked for."""
        for index in self._tracks:
            self.correspond(index)

    def correspond(self, index: int) -> Correspondence:
        """Flow and masks between the frame followed last and reference `index`."""
        track = self._tracks[index]
        if track.found is None:
            track.found = track.chain.correspond()
        return track.found
