"""Clips with known faults."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.motion import Frame, PairMotion

SIZE = (64, 96)


def picture(seed: int = 0, size: tuple[int, int] = SIZE, low: float = 70, high: float = 180) -> Frame:
    """A smooth random picture whose values keep away from 0 and 255, so that nothing added to it is clipped."""
    noise = np.random.default_rng(seed).normal(size=(*size, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return np.rint(low + soft * (high - low)).astype(np.uint8)


def panning(frames: int, speed: int = 2, seed: int = 0, size: tuple[int, int] = SIZE) -> list[Frame]:
    """A window that moves over a picture by whole pixels: exact motion without any interpolation."""
    wide = picture(seed, (size[0], size[1] + speed * frames))
    return [np.ascontiguousarray(wide[:, speed * i : speed * i + size[1]]) for i in range(frames)]


class Panning:
    """The exact motion of `panning`."""

    def __init__(self, speed: int = 2) -> None:
        self.speed = speed

    def between(self, i: int, j: int, a: Frame, b: Frame) -> PairMotion:
        shift = self.speed * (j - i)
        forward = np.zeros((*a.shape[:2], 2), np.float32)
        forward[..., 0] = -shift
        x = np.arange(a.shape[1])
        seen_a = np.broadcast_to((x - shift >= 0) & (x - shift < a.shape[1]), a.shape[:2])
        seen_b = np.broadcast_to((x + shift >= 0) & (x + shift < a.shape[1]), a.shape[:2])
        return PairMotion(forward, -forward, seen_a, seen_b)


def added(frames: list[Frame], amounts: NDArray[np.float64] | list[float]) -> list[Frame]:
    """A number of levels added to each frame, the same for all its pixels and channels."""
    return [
        (frame.astype(np.int64) + int(amount)).astype(np.uint8) for frame, amount in zip(frames, amounts, strict=True)
    ]


def noisy(frames: list[Frame], sigma: float, seed: int = 1) -> list[Frame]:
    """Grey noise that is new in each frame."""
    rng = np.random.default_rng(seed)
    return [np.clip(np.rint(f + rng.normal(0, sigma, (*f.shape[:2], 1))), 0, 255).astype(np.uint8) for f in frames]


def blurred(frames: list[Frame], sigma: float) -> list[Frame]:
    """Each frame blurred by a Gaussian."""
    return [cv2.GaussianBlur(f, (0, 0), sigma) for f in frames] if sigma else list(frames)
