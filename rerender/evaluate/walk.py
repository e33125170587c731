"""One pass over the source: for each frame, how it corresponds with the one before, the shot's first, and the last key.

The motion is worked out once and shared by all clips that are measured, the source's own figures among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rerender.evaluate.frames import Clip, Masks
from rerender.evaluate.meter import Step
from rerender.evaluate.motion import Frame, Mask, MotionSource, PairMotion
from rerender.motion.flow import FlowEstimator


@dataclass
class _Seen:
    """A frame that later ones are compared with."""

    number: int
    frame: Frame
    mask: Mask


@dataclass
class Walk:
    """Goes through the frames of a source.

    keys: frame numbers of the key frames. shot_starts: frames that begin a shot, 0 among them.
    """

    source: Clip
    masks: Masks
    motion: MotionSource
    quick_flow: FlowEstimator
    frames: int
    keys: Sequence[int]
    shot_starts: Sequence[int]

    def steps(self) -> Iterator[Step]:
        """One step per frame, in order."""
        keys, starts = set(self.keys), set(self.shot_starts)
        first: _Seen | None = None
        key: _Seen | None = None
        previous: _Seen | None = None
        for number in range(self.frames):
            now = _Seen(number, self.source[number], self.masks[number])
            is_key = number in keys
            if previous is None or first is None or number in starts:
                first, key = now, None
                yield Step(number, now.frame, now.mask, is_key=is_key)
            else:
                yield self._step(now, previous, first, key, is_key)
            previous = now
            key = now if is_key else key

    def _step(self, now: _Seen, previous: _Seen, first: _Seen, key: _Seen | None, is_key: bool) -> Step:
        # The previous frame may also be the first one or the key, and the first one often is the key.
        known: dict[int, PairMotion] = {previous.number: self._between(previous, now)}
        if first.number not in known:
            known[first.number] = self._between(first, now)
        to_key = None
        if key is not None and not is_key:
            to_key = _turned(known.get(key.number) or self._between(key, now))
        return Step(
            now.number,
            now.frame,
            now.mask,
            from_previous=known[previous.number],
            from_first=known[first.number],
            to_key=to_key,
            source_motion=self.quick_flow(previous.frame, now.frame),
            is_key=is_key,
        )

    def _between(self, earlier: _Seen, now: _Seen) -> PairMotion:
        motion = self.motion.between(earlier.number, now.number, earlier.frame, now.frame)
        return motion.within(earlier.mask, now.mask)


def _turned(motion: PairMotion) -> PairMotion:
    return PairMotion(motion.backward, motion.forward, motion.visible_b, motion.visible_a)
