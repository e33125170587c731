"""The motion that a clip is measured along: exact where a scene gives it, else estimated on the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.scenes import Scene
from rerender.motion.flow import FlowEstimator, bidirectional, flow_estimator
from rerender.motion.occlusion import hidden
from rerender.motion.warp import warp

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PairMotion:
    """How frames a and b of a clip correspond; all arrays (H, W) or (H, W, 2), flow in pixels."""

    forward: Flow  # a → b, on the pixels of a
    backward: Flow  # b → a, on the pixels of b
    visible_a: Mask  # pixels of a that b shows too
    visible_b: Mask  # pixels of b that a shows too

    def within(self, mask_a: Mask, mask_b: Mask) -> PairMotion:
        """The same motion, counting only what is inside the mask in both frames."""
        if mask_a.all() and mask_b.all():
            return self
        visible_a = self.visible_a & mask_a & _wholly(mask_b, self.forward)
        visible_b = self.visible_b & mask_b & _wholly(mask_a, self.backward)
        return PairMotion(self.forward, self.backward, visible_a, visible_b)


def _wholly(mask: Mask, flow: Flow) -> Mask:
    """Where the flow leads to pixels that are in the mask, all that a bilinear sample takes."""
    inside: Mask = warp(mask.astype(np.float32), flow) > 0.999
    return inside


class MotionSource(Protocol):
    """Anything that knows how two frames of the source correspond."""

    def between(self, i: int, j: int, a: Frame, b: Frame) -> PairMotion:
        """Motion between frames number i and j, whose pictures are a and b (uint8 RGB, H×W×3)."""
        ...


class EstimatedMotion:
    """Motion estimated on the source frames, with forward–backward and colour checks for visibility."""

    def __init__(self, estimator: FlowEstimator | None = None) -> None:
        self.estimator = estimator or flow_estimator()

    def between(self, i: int, j: int, a: Frame, b: Frame) -> PairMotion:
        """Flow of the estimator in both directions, and what is not `hidden`."""
        pair = bidirectional(self.estimator, a, b)
        turned = type(pair)(forward=pair.backward, backward=pair.forward)
        return PairMotion(pair.forward, pair.backward, ~hidden(a, b, pair), ~hidden(b, a, turned))


class SceneMotion:
    """Exact motion of a rendered scene; the pictures are not looked at."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def between(self, i: int, j: int, a: Frame, b: Frame) -> PairMotion:
        """True flow and true visibility, both ways."""
        truth = self.scene
        return PairMotion(
            truth.flow_between(i, j),
            truth.flow_between(j, i),
            ~truth.occluded_between(i, j),
            ~truth.occluded_between(j, i),
        )
