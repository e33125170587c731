"""What the input frames of an interval say: flow between neighbours, and the steps that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from rerender.motion.flow import FlowEstimator, FlowPair, bidirectional
from rerender.propagate.steps import Step


class Motions:
    """Flows and steps of an interval, each found once: when they are asked for, or by threads ahead of that.

    Threads serve a device: it works on one frame while the host looks at the next ones. They change no byte.

    Args:
        clip: (H, W, 3) uint8, the input frames.
        flow: estimator of optical flow; threads ask it at the same time.
        cuts: numbers of frames that begin a new shot.
        threads: how many look ahead; 0: none.
    """

    def __init__(self, clip: Sequence[np.ndarray], flow: FlowEstimator, cuts: Sequence[int], threads: int) -> None:
        self._clip, self._flow, self._cuts = clip, flow, cuts
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="motions") if threads else None
        self._pairs: dict[int, Future[FlowPair | None]] = {}
        self._steps: dict[tuple[int, int], Future[Step | None]] = {}

    def announce(self, moves: Iterable[tuple[int, int]]) -> None:
        """Let the threads find the steps (here, before), in this order."""
        if self._pool is None:
            return
        for here, before in moves:
            # Flows are queued before the steps that wait for them: some thread always has one that waits for nothing.
            for first in self._neighbours(here, before):
                if first not in self._pairs:
                    self._pairs[first] = self._pool.submit(self._measure, first)
            self._steps[here, before] = self._pool.submit(self._find, here, before)

    def step(self, here: int, before: int) -> Step | None:
        """Return what leads to frame `here` from its neighbour `before`; None across a cut."""
        announced = self._steps.pop((here, before), None)
        return self._find(here, before) if announced is None else announced.result()

    def close(self) -> None:
        """Drop what no one has begun to find."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _find(self, here: int, before: int) -> Step | None:
        motion, onward = self._between(here, before), 2 * here - before
        if motion is None:
            return None
        further = self._between(here, onward) if 0 <= onward < len(self._clip) else None
        return Step.between(self._clip[here], self._clip[before], motion, further.forward if further else None)

    def _neighbours(self, here: int, before: int) -> list[int]:
        """First frames of the pairs that a step needs the flow of."""
        return [
            first for first in (min(here, before), min(here, 2 * here - before)) if 0 <= first < len(self._clip) - 1
        ]

    def _between(self, here: int, there: int) -> FlowPair | None:
        """Flow between neighbouring frames, forward = here → there; None across a cut."""
        first = min(here, there)
        if first not in self._pairs:
            self._pairs[first] = _done(self._measure(first))
        pair = self._pairs[first].result()
        return pair if pair is None or here == first else FlowPair(pair.backward, pair.forward)

    def _measure(self, first: int) -> FlowPair | None:
        if first + 1 in self._cuts:
            return None
        a, b = self._clip[first], self._clip[first + 1]
        return bidirectional(self._flow, a, b)


def _done(pair: FlowPair | None) -> Future[FlowPair | None]:
    future: Future[FlowPair | None] = Future()
    future.set_result(pair)
    return future
