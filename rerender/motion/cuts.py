"""Scene cuts and the amount of motion, from small copies of the frames: a few milliseconds each, streamed.

A cut is where the structure of a frame cannot be explained by moving the one before it. Structure means local
correlation, which a change of light leaves as it is; colour decides only where both frames are flat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from rerender.motion.flow import DisFlow, FloatArray, UInt8Array
from rerender.motion.warp import warp

_SHORT_SIDE = 64
_FLOW = DisFlow(finest_scale=1, patch_stride=4, gradient_descent_iterations=16, refinement_iterations=3)
_WINDOW = 9
_NOISE = 9.0  # variance of grey values (0 to 255) below which a patch has no structure of its own
_LEAST = 0.55  # hard cuts measured 0.71 and more, fast crossing objects 0.48, a whip pan 0.34
_STANDING_OUT = 1.6  # how far a cut stands out from the frames around it, as a ratio
_AROUND = 4  # frames to each side
_FLASH = 3  # frames a flash or a glitch may last


@dataclass(frozen=True)
class _Small:
    """A frame shrunk to 64 px on the short side."""

    luma: UInt8Array
    histogram: FloatArray


def scene_cuts(frames: Iterable[UInt8Array]) -> list[int]:
    """Numbers of the frames that begin a new shot (never 0); frames are uint8 RGB (H, W, 3), read once in order.

    Keeps two small frames and one number per frame. A flash of up to three frames, after which the old picture
    comes back, is no cut; fades and dissolves have no cut either.
    """
    scores, flashes = _scores(frames)
    return [i for i in range(1, len(scores)) if i not in flashes and _is_cut(scores, i)]


def motion_magnitude(previous: UInt8Array, current: UInt8Array) -> float:
    """Mean motion between two frames, in percent of the diagonal; cheap, from 64 px on the short side."""
    a, b = _luma(_resize(previous)), _luma(_resize(current))
    flow = _FLOW(_as_rgb(a), _as_rgb(b))
    return float(100.0 * np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64) / np.hypot(a.shape[0], a.shape[1]))


def _scores(frames: Iterable[UInt8Array]) -> tuple[list[float], set[int]]:
    """Change at each frame against the one before (0 for the first), and the false cuts that flashes make."""
    scores: list[float] = []
    flashes: set[int] = set()
    previous: _Small | None = None
    before: _Small | None = None  # the last frame of the shot that may just have ended …
    began = 0  # … at this frame
    for number, frame in enumerate(frames):
        small = _shrink(frame)
        score = 0.0 if previous is None else _change(previous, small)
        scores.append(score)
        if score >= _LEAST:
            if before is not None and number - began <= _FLASH and _change(before, small) < _LEAST:
                flashes |= {began, number}
                before = None
            elif before is None or number - began > _FLASH:
                before, began = previous, number
        previous = small
    return scores, flashes


def _is_cut(scores: list[float], number: int) -> bool:
    """A score that is high in itself and stands out from its surroundings (in a whip pan all are high)."""
    around = scores[max(1, number - _AROUND) : number] + scores[number + 1 : number + 1 + _AROUND]
    usual = median(around) if around else 0.0
    return scores[number] >= _LEAST and scores[number] >= _STANDING_OUT * usual


def _change(a: _Small, b: _Small) -> float:
    """0 where b is a moved, 1 where they have nothing in common."""
    rgb_a, rgb_b = _as_rgb(a.luma), _as_rgb(b.luma)
    onto_b = warp(a.luma, _FLOW(rgb_b, rgb_a))
    onto_a = warp(b.luma, _FLOW(rgb_a, rgb_b))
    structure = min(_dissimilarity(onto_b, b.luma), _dissimilarity(onto_a, a.luma))
    colour = 1.0 - float(np.minimum(a.histogram, b.histogram).sum())
    return max(structure, colour * _flat_share(a.luma, b.luma))


def _dissimilarity(a: UInt8Array, b: UInt8Array) -> float:
    """1 - the structure term of SSIM (Wang et al., 2004) over 9×9 windows, weighted by local contrast; 0 to 2."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    mean_x, mean_y = _mean(x), _mean(y)
    var_x, var_y = _mean(x * x) - mean_x**2, _mean(y * y) - mean_y**2
    covariance = _mean(x * y) - mean_x * mean_y
    contrast = var_x + var_y + _NOISE
    weight = np.sqrt(contrast)
    return 1.0 - float(((2 * covariance + _NOISE) / contrast * weight).sum() / weight.sum())


def _flat_share(a: UInt8Array, b: UInt8Array) -> float:
    """Part of the picture where neither frame has structure."""
    flat = [_mean(x * x) - _mean(x) ** 2 < _NOISE for x in (a.astype(np.float32), b.astype(np.float32))]
    return float((flat[0] & flat[1]).mean())


def _mean(values: FloatArray) -> FloatArray:
    blurred = cv2.blur(values, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)


def _shrink(frame: UInt8Array) -> _Small:
    small = _resize(frame)
    counts = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return _Small(_luma(small), (counts / counts.sum()).astype(np.float32))


def _luma(picture: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _resize(frame: UInt8Array) -> UInt8Array:
    height, width = frame.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _as_rgb(luma: UInt8Array) -> UInt8Array:
    return np.repeat(luma[..., None], 3, axis=2)
