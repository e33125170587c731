"""Measures a clip as it streams by: keeps four frames and one number per metric and frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.figures import ClipFigures
from rerender.evaluate.metrics import (
    Array,
    along,
    flicker_residual,
    luma,
    sharpness_ratio,
    squared_error,
)
from rerender.evaluate.motion import Flow, Frame, Mask, PairMotion
from rerender.evaluate.picture import blur_effect, colour_shift, motion_kept, ssim, structure
from rerender.evaluate.semantic import SemanticFeatures, similarity
from rerender.motion.flow import FlowEstimator


@dataclass(frozen=True)
class Step:
    """One frame of the source, and how it corresponds with earlier ones; shared by all clips that are measured.

    A shot's first frame has neither `from_previous` nor `from_first`.
    """

    number: int
    source: Frame
    mask: Mask
    """(H, W): pixels that count."""
    from_previous: PairMotion | None = None
    """a = the frame before, b = this one."""
    from_first: PairMotion | None = None
    """a = first frame of the shot, b = this one."""
    to_key: PairMotion | None = None
    """a = this frame, b = the last key frame before it; None at a key frame."""
    source_motion: Flow | None = None
    """Quick estimate of the flow from the frame before to this one on the source."""
    is_key: bool = False


class ClipMeter:
    """Collects the figures of one clip."""

    def __init__(self, name: str, quick_flow: FlowEstimator, semantic: SemanticFeatures | None = None) -> None:
        self.figures = ClipFigures(name)
        self._quick_flow = quick_flow
        self._semantic = semantic
        self._first: Frame | None = None
        self._key: Frame | None = None
        self._previous: Frame | None = None
        self._before_previous: Array | None = None  # luma of the frame before the previous one, carried onto it …
        self._both_seen: Mask | None = None  # … and where it is seen
        self._features: dict[str, NDArray[np.float64]] = {}

    def add(self, step: Step, frame: Frame) -> None:
        """Measure the next frame, uint8 RGB of the source's size."""
        figures: dict[str, float] = {
            "blur": blur_effect(frame),
            "structure": structure(frame, step.source, step.mask),
            "change": _rms(frame, step.source, step.mask),
        }
        colour = np.zeros(3)
        if step.from_previous is None:
            self._first, self._before_previous = frame, None
        else:
            figures |= self._to_previous(step, step.from_previous, frame)
        if step.from_first is not None:
            more, colour = self._to_first(step.from_first, frame)
            figures |= more
        if step.to_key is not None and self._key is not None:
            figures["sharpness"] = sharpness_ratio(frame, self._key, step.to_key)
        figures |= self._meaning(step, frame)
        self.figures.append(figures, colour.tolist())
        self._previous = frame
        if step.is_key:
            self._key = frame

    def _to_previous(self, step: Step, motion: PairMotion, frame: Frame) -> dict[str, float]:
        assert self._previous is not None
        next_seen, previous_seen = along(frame, motion.forward), along(self._previous, motion.backward)
        there = squared_error(self._previous, next_seen, motion.visible_a)
        back = squared_error(frame, previous_seen, motion.visible_b)
        self._flicker_of_previous(luma(next_seen), motion)
        self._before_previous, self._both_seen = luma(previous_seen), motion.visible_b
        figures = {
            "warp_error": 0.5 * (there + back),
            "ssim_flow": ssim(luma(frame), self._before_previous, motion.visible_b),
        }
        if step.source_motion is not None:
            own = step.source_motion if frame is step.source else self._quick_flow(self._previous, frame)
            figures["motion_kept"] = motion_kept(own, step.source_motion, motion.visible_a)
        return figures

    def _flicker_of_previous(self, following: Array, motion: PairMotion) -> None:
        """Flicker needs both neighbours, so it is known one frame later."""
        if self._before_previous is None:
            return
        assert self._previous is not None
        assert self._both_seen is not None
        seen = self._both_seen & motion.visible_a
        figure = flicker_residual(self._before_previous, luma(self._previous), following, seen)
        self.figures.series["flicker"][-1] = figure

    def _to_first(self, motion: PairMotion, frame: Frame) -> tuple[dict[str, float], Array]:
        assert self._first is not None
        first_seen = along(self._first, motion.backward)
        there = squared_error(self._first, along(frame, motion.forward), motion.visible_a)
        back = squared_error(frame, first_seen, motion.visible_b)
        shift = colour_shift(frame, first_seen, motion.visible_b)
        return {"warp_error_first": 0.5 * (there + back), "colour_drift": float(np.linalg.norm(shift))}, shift

    def _meaning(self, step: Step, frame: Frame) -> dict[str, float]:
        if self._semantic is None:
            return {}
        features = self._semantic(frame)
        figures: dict[str, Any] = {}
        if step.from_previous is None:
            self._features["first"] = features
        else:
            figures["semantic_neighbours"] = similarity(features, self._features["previous"])
            figures["semantic_first"] = similarity(features, self._features["first"])
        self._features["previous"] = features
        return figures


def _rms(frame: Frame, source: Frame, mask: Mask) -> float:
    difference = frame.astype(np.float64)[mask] - source[mask]
    return float(np.sqrt(np.mean(difference**2))) if difference.size else float("nan")
