"""Propagated sequences with exact flow: steadiness inside intervals and at their joins, and distance to the keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from rerender.evaluate.looks import apply_look
from rerender.evaluate.metrics import laplacian_variance, pair_warp_error
from rerender.evaluate.motion import SceneMotion
from rerender.evaluate.scenes import Scene, scene
from rerender.motion.flow import FlowEstimator, flow_estimator
from rerender.motion.warp import warp
from rerender.propagate import PropagationSettings, propagate_interval

CASES = (
    ("translation", "oil"),
    ("translation", "comic"),
    ("fast", "oil"),
    ("fast", "watercolour"),
    ("parallax", "mosaic"),
    ("parallax", "oil"),
    ("rotation", "comic"),
    ("rotation", "pencil"),
    ("zoom", "watercolour"),
    ("deformation", "pencil"),
)

NEAR = 8
"""Pixels around outlines within which a look may draw what moves with the object."""


@dataclass(frozen=True)
class SequenceFigures:
    """Figures of one propagated clip; errors are squared 8-bit levels.

    Attributes:
        inside, joins: warp error of frame pairs inside intervals, and of the pairs on both sides of a key.
        truth_inside: the same of a clip made by warping the key frames along the true flow.
        look_inside, look_joins: `inside` and `joins` of the style of every frame: what a perfect result has.
        away: `inside`, counting only what is more than `NEAR` pixels from the outlines of objects in both frames.
            Nearer, a style's outlines move with their objects, while the true flow is the background's.
        truth_away: the same of the warped key frames.
        psnr, truth_psnr: of the propagated and of the truth-warped in-betweens against the style of every frame.
        sharpness, truth_sharpness: variance of the Laplacian of both, relative to the style of every frame.
        nearer_last: share of intervals whose last in-between is nearer to the key behind it than to the one before.
        cpu_seconds: per in-between frame, everything included.
    """

    inside: float
    joins: float
    truth_inside: float
    look_inside: float
    look_joins: float
    away: float
    truth_away: float
    psnr: float
    truth_psnr: float
    sharpness: float
    truth_sharpness: float
    nearer_last: float
    cpu_seconds: float


class TrueFlow:
    """A flow estimator that knows the scene."""

    def __init__(self, made: Scene) -> None:
        self.made = made

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Flow reference → target, (H, W, 2)."""
        return self.made.flow_between(self._number(reference), self._number(target))

    def _number(self, picture: np.ndarray) -> int:
        return next(i for i, frame in enumerate(self.made.frames) if np.array_equal(frame, picture))


def measure_sequence(
    kind: str, look: str, settings: PropagationSettings, side: int = 256, gap: int = 8, flow: str = "exact"
) -> SequenceFigures:
    """Propagate three key frames over two intervals of `gap` frames and measure the clip."""
    made = scene(kind, 9000, (side, side), 2 * gap + 1)
    wanted = [apply_look(frame, look) for frame in made.frames]
    keys = (0, gap, 2 * gap)
    truth = {k: wanted[k] for k in keys}
    estimator: FlowEstimator = TrueFlow(made) if flow == "exact" else flow_estimator(flow)
    clip, seconds = fill(made.frames, wanted, keys, settings, estimator)
    for number in set(range(2 * gap + 1)) - set(keys):
        truth[number] = _warped_key(made, wanted, keys, number)
    inner = [n for n in range(2 * gap + 1) if n not in keys]
    style = dict(enumerate(wanted))
    errors, own, perfect = (_pair_errors(made, pictures) for pictures in (clip, truth, style))
    away, truth_away = (_pair_errors(made, pictures, NEAR) for pictures in (clip, truth))
    inside, touching = pairs_inside(gap), (gap - 1, gap)
    return SequenceFigures(
        inside=float(np.mean([errors[i] for i in inside])),
        joins=float(np.mean([errors[i] for i in touching])),
        truth_inside=float(np.mean([own[i] for i in inside])),
        look_inside=float(np.mean([perfect[i] for i in inside])),
        look_joins=float(np.mean([perfect[i] for i in touching])),
        away=float(np.mean([away[i] for i in inside])),
        truth_away=float(np.mean([truth_away[i] for i in inside])),
        psnr=clip_psnr([clip[n] for n in inner], [wanted[n] for n in inner]),
        truth_psnr=clip_psnr([truth[n] for n in inner], [wanted[n] for n in inner]),
        sharpness=clip_sharpness([clip[n] for n in inner], [wanted[n] for n in inner]),
        truth_sharpness=clip_sharpness([truth[n] for n in inner], [wanted[n] for n in inner]),
        nearer_last=float(np.mean([_nearer_last(made, clip, b, gap) for b in keys[1:]])),
        cpu_seconds=seconds / len(inner),
    )


def pairs_inside(gap: int) -> list[int]:
    """First frames of the pairs that lie inside one of two intervals, without those next to a key."""
    return [i for i in range(1, 2 * gap - 1) if i not in (gap - 1, gap)]


def fill(
    frames: Sequence[np.ndarray],
    wanted: Sequence[np.ndarray],
    keys: Sequence[int],
    settings: PropagationSettings,
    estimator: FlowEstimator,
) -> tuple[dict[int, np.ndarray], float]:
    """The clip with all but the keys propagated from them, by number, and the CPU seconds that took."""
    clip, started = {key: wanted[key] for key in keys}, time.process_time()
    for a, b in pairwise(keys):
        for offset, picture in propagate_interval(frames[a : b + 1], wanted[a], wanted[b], settings, flow=estimator):
            clip[a + offset] = picture
    return clip, time.process_time() - started


def _warped_key(made: Scene, wanted: list[np.ndarray], keys: tuple[int, ...], number: int) -> np.ndarray:
    """The nearer key warped along the true flow; what it does not show comes from the next nearest."""
    order = sorted(keys, key=lambda key: abs(key - number))
    picture = warp(wanted[order[0]], made.flow_between(number, order[0]))
    hidden = made.occluded_between(number, order[0])
    picture[hidden] = warp(wanted[order[1]], made.flow_between(number, order[1]))[hidden]
    return picture


def _pair_errors(made: Scene, clip: dict[int, np.ndarray], near: int = 0) -> list[float]:
    """Warp error of neighbouring frames, without what is within `near` pixels of an outline in either."""
    motion, counted = SceneMotion(made), [_away_from_outlines(made, i, near) for i in range(len(clip))]
    return [
        pair_warp_error(
            clip[i],
            clip[i + 1],
            motion.between(i, i + 1, clip[i], clip[i + 1]).within(counted[i], counted[i + 1]),
        )
        for i in range(len(clip) - 1)
    ]


def _away_from_outlines(made: Scene, number: int, near: int) -> np.ndarray:
    label, around = made.labels[number].astype(np.uint8), np.ones((3, 3), np.uint8)
    outline = cv2.dilate(label, around) != cv2.erode(label, around)
    if near == 0 or not outline.any():
        return np.ones(label.shape, bool)
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > near


def _nearer_last(made: Scene, clip: dict[int, np.ndarray], last: int, gap: int) -> bool:
    motion, frame = SceneMotion(made), last - 1
    distances = [
        pair_warp_error(clip[frame], clip[key], motion.between(frame, key, clip[frame], clip[key]))
        for key in (last - gap, last)
    ]
    return distances[1] < distances[0]


def clip_psnr(pictures: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """PSNR of a clip in dB."""
    errors = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(pictures, truth, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def clip_sharpness(pictures: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Variance of the Laplacian of a clip, relative to that of the truth."""
    return float(np.mean([laplacian_variance(p) for p in pictures]) / np.mean([laplacian_variance(t) for t in truth]))
