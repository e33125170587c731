"""What the input frames of an interval say: flow between neighbours, and the steps that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from rerender.motion.flow import FlowEstimator, FlowPair, bidirectional
from rerender.propagate.lookout import Lookout, after
from rerender.propagate.steps import Step

Move = tuple[int, int]
"""To a frame, from its neighbour."""


class Motions:
    """Flows and steps of an interval, each found once: when they are asked for, or by a lookout's threads before that.

    Threads serve a device: it works on one frame while the host looks at the next ones. They change no byte. A flow is
    kept until the last of the announced moves that it is needed for; both sweeps share it.

    Args:
        clip: (H, W, 3) uint8, the input frames.
        flow: estimator of optical flow; threads ask it at the same time.
        cuts: numbers of frames that begin a new shot.
        lookout: whose threads look ahead, if it has any.
    """

    def __init__(
        self, clip: Sequence[np.ndarray], flow: FlowEstimator, cuts: Sequence[int], lookout: Lookout | None = None
    ) -> None:
        self._clip, self._flow, self._cuts = clip, flow, cuts
        self._lookout = lookout or Lookout(0)
        self._uses: Counter[int] = Counter()  # moves to come that need the flow after a frame
        self._pairs: dict[int, Future[FlowPair | None]] = {}
        self._announced: set[Move] = set()
        self._steps: dict[Move, Future[Step | None]] = {}

    def announce(self, moves: Iterable[Move]) -> None:
        """Say which steps will be asked for, and in which order."""
        moves = list(moves)
        self._announced.update(moves)
        self._uses.update(first for move in moves for first in self._neighbours(*move))
        for move in moves:
            self._lookout.announce(partial(self._begin, move))

    def step(self, here: int, before: int) -> Step | None:
        """Return what leads to frame `here` from its neighbour `before`; None across a cut."""
        move = here, before
        with self._lookout.lock:
            self._announced.discard(move)
            begun = self._steps.pop(move, None)
        try:
            return self._find(here, before) if begun is None else begun.result()
        finally:
            self._let_go(move)
            if begun is not None:
                self._lookout.taken()

    def _begin(self, move: Move) -> bool:
        """Let threads find a step, once its flows are there."""
        if move not in self._announced:
            return False
        neighbours = self._neighbours(*move)
        for first in neighbours:
            if first not in self._pairs:
                self._pairs[first] = self._lookout.submit(self._measure, first)
        pending = [self._pairs[first] for first in neighbours if not self._pairs[first].done()]
        work = partial(self._find, *move)
        self._steps[move] = after(pending, work) if pending else self._lookout.submit(work)
        return True

    def _let_go(self, move: Move) -> None:
        for first in self._neighbours(*move):
            self._uses[first] -= 1
            if self._uses[first] == 0:
                self._pairs.pop(first, None)

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
