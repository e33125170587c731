"""The figures of a clip: what each metric is called, its unit, which way is better, and how to sum it up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Better = Literal["lower", "higher", "near 1", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric; its figure for a clip is the mean of its series unless `of_joins`."""

    name: str
    label: str
    unit: str
    better: Better
    meaning: str
    read_with: tuple[str, ...]
    """Metrics that this one must be read together with."""
    of_joins: bool = False

    def cost(self, value: float) -> float:
        """A number that is lower for a better figure."""
        return {"lower": value, "higher": -value, "near 1": abs(value - 1), "neither": 0.0}[self.better]


_ALL = (
    Metric("warp_error", "Warp error", "levels²", "lower",
           "Change between neighbouring frames along the motion of the source, where both show the same thing.",
           ("sharpness", "blur", "motion_kept")),
    Metric("warp_error_first", "Warp error to the first frame", "levels²", "lower",
           "The same between each frame and the first one of its shot: slow drift adds up here.",
           ("warp_error", "blur")),
    Metric("join_ratio", "Warp error at joins ÷ inside", "×", "near 1",
           "Warp error of the pairs that touch an inner key frame ÷ of all others; above 1: pops at key frames.",
           ("warp_error",), of_joins=True),
    Metric("flicker", "Flicker", "levels", "lower",
           "High-frequency part of luma along the motion: σ of noise that is new in each frame.",
           ("motion_kept", "blur")),
    Metric("ssim_flow", "SSIM along the flow", "", "higher",
           "Structural similarity of each frame to the one before, carried along the motion.",
           ("blur", "motion_kept")),
    Metric("colour_drift", "Colour drift", "ΔE*ab", "lower",
           "Distance of the mean colour in Lab from the first frame of the shot, at the points that both show.",
           ("warp_error_first",)),
    Metric("sharpness", "Sharpness relative to the key frames", "×", "near 1",
           "Variance of the Laplacian of an in-between ÷ that of the last key frame, where both show the same thing.",
           ("blur", "warp_error")),
    Metric("blur", "Blur effect", "", "lower",
           "What a picture does not lose when it is blurred once more: 0 sharp, 1 blurred.",
           ("sharpness", "structure")),
    Metric("structure", "Structure kept", "", "higher",
           "Correlation of the edges with those of the source.",
           ("change",)),
    Metric("motion_kept", "Motion kept", "×", "near 1",
           "How far the result moves as the source does: 0 is frozen.",
           ("warp_error", "flicker")),
    Metric("semantic_neighbours", "Semantic similarity to the frame before", "cosine", "higher",
           "Cosine of EfficientNet-Lite0 features of neighbouring frames.",
           ("change", "motion_kept")),
    Metric("semantic_first", "Semantic similarity to the first frame", "cosine", "higher",
           "Cosine of EfficientNet-Lite0 features to the first frame of the shot.",
           ("change", "motion_kept")),
    Metric("change", "Change from the source", "levels", "neither",
           "Root mean square distance from the source: how much was restyled at all; no figure of merit by itself.",
           ("structure",)),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


@dataclass
class ClipFigures:
    """Everything measured on one clip, frame by frame. Unmeasured values are nan."""

    name: str
    series: dict[str, list[float]] = field(default_factory=dict)
    colour: list[tuple[float, float, float]] = field(default_factory=list)
    """Shift of (L*, a*, b*) from the first frame of the shot, per frame."""
    joins: frozenset[int] = frozenset()
    """Frames i whose pair (i - 1, i) touches an inner key frame."""

    def append(self, figures: Mapping[str, float], colour: Sequence[float]) -> None:
        """Add one frame; metrics that are not in `figures` are nan for it."""
        for name, metric in METRICS.items():
            if not metric.of_joins:
                self.series.setdefault(name, []).append(figures.get(name, math.nan))
        self.colour.append((colour[0], colour[1], colour[2]))

    def summary(self) -> dict[str, float]:
        """One figure per metric: the mean over the frames where it is defined, else nan."""
        return {name: self._join_ratio() if m.of_joins else mean(self.series[name]) for name, m in METRICS.items()}

    def _join_ratio(self) -> float:
        errors = self.series["warp_error"]
        at = mean([error for i, error in enumerate(errors) if i in self.joins])
        inside = mean([error for i, error in enumerate(errors) if i not in self.joins])
        return at / inside if inside > 0 else math.nan


def join_pairs(keys: Sequence[int], frames: int, shot_starts: Sequence[int] = (0,)) -> frozenset[int]:
    """Frames i whose pair (i - 1, i) touches a key frame with in-betweens on both sides of it.

    The first and the last key frame of a shot join nothing.
    """
    edges = {*shot_starts, *(start - 1 for start in shot_starts), frames - 1}
    return frozenset(i for key in keys if key not in edges for i in (key, key + 1))


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not nan, in float64; nan where none is left."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known, dtype=np.float64)) if known else math.nan


def show(value: float) -> str:
    """A figure for people: about three significant digits, a dash where nothing was measured."""
    if math.isnan(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}"
