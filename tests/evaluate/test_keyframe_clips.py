"""What the benchmark of key frames counts: of estimated motion also the part alone that the source follows."""

from __future__ import annotations

import numpy as np

from benchmarks.keyframe_clips import Footage
from benchmarks.quality.suite import Case
from rerender.evaluate.motion import PairMotion

SIDE = 32


class WrongOnTheRight:
    """Says that nothing moves, and that each frame shows all of the other."""

    def between(self, i: int, j: int, a: np.ndarray, b: np.ndarray) -> PairMotion:
        still, seen = np.zeros((SIDE, SIDE, 2), np.float32), np.ones((SIDE, SIDE), bool)
        return PairMotion(still, still, seen, seen)


def footage(step: int) -> Footage:
    """Two grey frames; the second one is brighter by `step` on the right half."""
    before = np.full((SIDE, SIDE, 3), 100, np.uint8)
    after = before.copy()
    after[:, SIDE // 2 :] += step
    return Footage(Case("bikes.mp4", "oil", frames=2), [before, after], WrongOnTheRight(), None)


def test_what_the_source_does_not_follow_is_not_sure():
    motion = footage(60).surely_between(0, 1)
    for seen in (motion.visible_a, motion.visible_b):
        assert seen[:, : SIDE // 2 - 3].all()
        assert not seen[:, SIDE // 2 + 3 :].any()


def test_noise_and_interpolation_are_sure():
    assert footage(10).surely_between(0, 1).visible_a.all()


def test_exact_motion_is_sure_as_it_is():
    case = Case("translation", "oil", frames=2, short_side=64)
    scene = case.scene()
    frames = [frame[:SIDE, :SIDE] for frame in scene.frames[:2]]
    frames[1] = 255 - frames[1]
    exact = Footage(case, frames, WrongOnTheRight(), scene)
    assert exact.surely_between(0, 1) is exact.between(0, 1)
