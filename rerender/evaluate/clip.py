"""Metrics of whole clips held in memory; `rerender.evaluate.meter` has the same figures for streams.

Example:
    >>> from rerender.evaluate.scenes import scene
    >>> clip = scene("translation", seed=1, size=(64, 64), frames=4)
    >>> warp_error(clip.frames, SceneMotion(clip)) < 60
    True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rerender.evaluate.metrics import along, flicker_residual, luma, pair_warp_error, sharpness_ratio
from rerender.evaluate.motion import EstimatedMotion, Frame, MotionSource, PairMotion, SceneMotion

__all__ = ["EstimatedMotion", "SceneMotion", "flicker", "long_range_warp_error", "sharpness", "warp_error"]

Pair = Callable[[int, int], PairMotion]


def warp_error(frames: Sequence[Frame], motion: MotionSource, source: Sequence[Frame] | None = None) -> float:
    """Mean warp error of neighbouring frames, both directions, occlusions left out; squared 8-bit levels, lower better.

    Lai et al., ECCV 2018 (see `metrics.squared_error`). Pairs that share nothing visible (cuts) are not counted.

    Args:
        frames: the clip to judge, uint8 RGB (H, W, 3) each.
        motion: `SceneMotion(scene)`, or `EstimatedMotion()` which looks at `source`.
        source: frames that the motion is estimated on; by default `frames` themselves, which is right for the floor
            only: a result must be judged along the motion of its source.
    """
    pair = _pairs(frames, motion, source)
    return _mean([pair_warp_error(frames[i], frames[i + 1], pair(i, i + 1)) for i in range(len(frames) - 1)])


def long_range_warp_error(
    frames: Sequence[Frame], motion: MotionSource, source: Sequence[Frame] | None = None
) -> float:
    """Mean warp error of every later frame to the first one; unit and arguments as `warp_error`.

    Lai et al., ECCV 2018; Lei et al., Blind Video Temporal Consistency via Deep Video Prior, NeurIPS 2020, eq. 4.
    Shows drift, which neighbours do not.
    """
    pair = _pairs(frames, motion, source)
    return _mean([pair_warp_error(frames[0], frames[i], pair(0, i)) for i in range(1, len(frames))])


def flicker(frames: Sequence[Frame], motion: MotionSource, source: Sequence[Frame] | None = None) -> float:
    """Mean of `metrics.flicker_residual` over the inner frames, 8-bit luma levels, lower is better.

    Arguments as `warp_error`.
    """
    pair = _pairs(frames, motion, source)
    pairs = [pair(i, i + 1) for i in range(len(frames) - 1)]
    figures = []
    for i, (before, after) in enumerate(pairwise(pairs), start=1):
        previous = luma(along(frames[i - 1], before.backward))
        following = luma(along(frames[i + 1], after.forward))
        seen = before.visible_b & after.visible_a
        figures.append(flicker_residual(previous, luma(frames[i]), following, seen))
    return _mean(figures)


def sharpness(
    frames: Sequence[Frame], keys: Sequence[int], motion: MotionSource, source: Sequence[Frame] | None = None
) -> float:
    """Mean over the in-betweens of `metrics.sharpness_ratio` to the last key frame; 1 is as sharp as the keys.

    keys: frame numbers; frames before the first of them are not counted. Other arguments as `warp_error`.
    nan where every frame is a key frame.
    """
    pair = _pairs(frames, motion, source)
    figures = []
    for i in sorted(set(range(min(keys), len(frames))) - set(keys)):
        key = max(k for k in keys if k < i)
        figures.append(sharpness_ratio(frames[i], frames[key], pair(i, key)))
    return _mean(figures)


def _pairs(frames: Sequence[Frame], motion: MotionSource, source: Sequence[Frame] | None) -> Pair:
    seen = frames if source is None else source
    if len(seen) != len(frames):
        raise ValueError(f"{len(frames)} frames, but the source has {len(seen)}")
    return lambda i, j: motion.between(i, j, seen[i], seen[j])


def _mean(figures: Sequence[float]) -> float:
    known = [figure for figure in figures if not np.isnan(figure)]
    return float(np.mean(known, dtype=np.float64)) if known else float("nan")
