"""One picture from the two directions: choice by error and distance, mix, and gradient-domain blend in Lab."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rerender.motion.warp import warp
from rerender.propagate.poisson import screened_poisson
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.synthesis import Synthesis

GAIN_L, GAIN_AB = 2.5, 0.5
_GHOST_WINDOW = 9
_GHOST_FROM, _GHOST_TO = 8.0, 20.0  # CIE Lab distance of the local means


@dataclass(frozen=True)
class Blend:
    """A blended frame.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        choice: (H, W) bool, True where the backward direction was chosen.
    """

    picture: np.ndarray
    choice: np.ndarray


def blend(
    forward: Synthesis,
    backward: Synthesis,
    alpha: float,
    settings: PropagationSettings,
    latched: np.ndarray | None = None,
) -> Blend:
    """Blend both directions of one frame.

    Args:
        forward, backward: the frame synthesised from the key before and from the key after it.
        alpha: distance to the key before / distance between the keys, in (0, 1): the weight of `backward`.
        settings: contrast, poisson, ghost_check.
        latched: (H, W) bool, the previous frame's choice carried here (see `carry_choice`).
    """
    choice = choose(forward.error, backward.error, alpha)
    if latched is not None:
        choice = choice | latched
    a, b = _to_lab(forward.picture), _to_lab(backward.picture)
    chosen = np.where(choice[..., None], b, a)
    mixed = _mix(a, b, forward.error, backward.error, alpha)
    if settings.contrast:
        mixed = match_statistics(mixed, chosen)
    if settings.ghost_check:
        doubt = _disagreement(a, b)[..., None]
        mixed = mixed + doubt * (chosen - mixed)
    if settings.poisson:
        mixed = _gradient_blend(mixed, a, b, choice)
    return Blend(_to_rgb(mixed), choice)


def choose(error_a: np.ndarray, error_b: np.ndarray, alpha: float) -> np.ndarray:
    """Return True where the backward direction is better: α·Ea ≥ (1 - α)·Eb."""
    return alpha * error_a >= (1 - alpha) * error_b


def carry_choice(choice: np.ndarray, flow: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Carry the choice of the previous frame along the flow (this frame → previous): once b, it stays b.

    Args:
        choice: (H, W) bool. flow: (H, W, 2). holes: (H, W) bool, where the previous frame shows something else.
    """
    return np.asarray(warp(choice.astype(np.uint8), flow, mode="nearest") > 0) & ~holes


def match_statistics(picture: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Give each channel of a picture the mean and standard deviation of the model's; (H, W, C) float32."""
    mean, std = picture.mean((0, 1)), picture.std((0, 1))
    wanted_mean, wanted_std = model.mean((0, 1)), model.std((0, 1))
    return (picture - mean) * (wanted_std / np.maximum(std, 1e-3)) + wanted_mean


def _mix(a: np.ndarray, b: np.ndarray, error_a: np.ndarray, error_b: np.ndarray, alpha: float) -> np.ndarray:
    """Mean of both, weighed by distance and error: the soft form of `choose`."""
    far, near = alpha * (error_a + 1), (1 - alpha) * (error_b + 1)
    weight = (far / (far + near)).astype(np.float32)[..., None]
    return a + weight * (b - a)


def _disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """0 … 1, how clearly the two directions show different things and not only other strokes; (H, W)."""
    means = cv2.blur(a - b, (_GHOST_WINDOW, _GHOST_WINDOW))
    distance = np.sqrt((means**2).sum(2))
    ramp = np.clip((distance - _GHOST_FROM) / (_GHOST_TO - _GHOST_FROM), 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _gradient_blend(mixed: np.ndarray, a: np.ndarray, b: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Screened Poisson: colours of the mix, gradients of whichever direction was chosen."""
    pick = choice[..., None]
    gradient_x, gradient_y = (np.where(pick, _difference(b, axis), _difference(a, axis)) for axis in (1, 0))
    parts = [
        screened_poisson(mixed[..., c], gradient_x[..., c], gradient_y[..., c], gain)
        for c, gain in ((slice(0, 1), GAIN_L), (slice(1, 3), GAIN_AB))
    ]
    return np.concatenate(parts, 2)


def _difference(image: np.ndarray, axis: int) -> np.ndarray:
    """Forward differences, 0 in the last row or column."""
    last = image.take([-1], axis)
    return np.diff(image, axis=axis, append=last)


def _to_lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)


def _to_rgb(lab: np.ndarray) -> np.ndarray:
    rgb = cv2.cvtColor(np.ascontiguousarray(lab, np.float32), cv2.COLOR_Lab2RGB)
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
