"""Small clips with exact flow for the tests of propagation."""

from __future__ import annotations

import numpy as np

from rerender.evaluate.scenes import Scene, scene


class ExactFlow:
    """A flow estimator that knows the clip."""

    def __init__(self, clip: Scene, frames: list[np.ndarray]) -> None:
        self.clip, self.frames = clip, frames

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        return self.clip.flow_between(self._number(reference), self._number(target))

    def _number(self, picture: np.ndarray) -> int:
        return next(i for i, frame in enumerate(self.frames) if np.array_equal(frame, picture))


def clip(kind: str, count: int, side: int = 64, seed: int = 3) -> tuple[list[np.ndarray], ExactFlow]:
    """Frames of a scene, and their exact flow."""
    made = scene(kind, seed, (side, side), count)
    return made.frames, ExactFlow(made, made.frames)


def restyle(frame: np.ndarray) -> np.ndarray:
    """A style that is a function of the pixel: the truth of any propagated frame is known."""
    turned = frame.astype(np.float32) @ np.array([[0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.7, 0.1, 0.2]], np.float32)
    return np.clip(255 - turned, 0, 255).astype(np.uint8)


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared error on the 0–255 scale."""
    return float(np.mean((a.astype(np.float64) - b) ** 2))
