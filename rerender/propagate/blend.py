"""One picture from the two directions: choice by error and distance, mix, and gradient-domain blend in Lab."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rerender.motion.warp import warp
from rerender.propagate.poisson import screened_poisson
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import Swept

GAIN_L, GAIN_AB = 2.5, 0.5
_GHOST_WINDOW = 9
_GHOST_FROM, _GHOST_TO = 8.0, 20.0  # CIE Lab distance of the local means
_DETAIL_WINDOW, _CONTRAST_WINDOW = 5, 15
_MOST_CONTRAST = 2.0
_USUAL_ERROR = 2000.0  # of a synthesis, below which differences of errors say nothing
_UNVERIFIED, _UNSEEN = 0.4, 0.1  # credit of what was not followed, where its key shows it, and where it does not


@dataclass(frozen=True)
class Blend:
    """A blended frame.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        weight: (H, W) float32 in [0, 1], the share of the backward direction.
    """

    picture: np.ndarray
    weight: np.ndarray


def blend(
    forward: Swept,
    backward: Swept,
    alpha: float,
    settings: PropagationSettings,
    latched: np.ndarray | None = None,
) -> Blend:
    """Blend both directions of one frame.

    Args:
        forward, backward: the frame as it comes from the key before and from the key after it.
        alpha: distance to the key before / distance between the keys, in (0, 1): the weight of `backward`.
        settings: contrast, poisson, ghost_check.
        latched: (H, W) float32, the previous frame's weight carried here (see `carry_weight`).
    """
    weight = share(credit(forward), credit(backward), alpha)
    if latched is not None:
        weight = np.maximum(weight, latched)
    a, b = _to_lab(forward.picture), _to_lab(backward.picture)
    if settings.ghost_check:
        weight = weight + _disagreement(a, b) * ((weight >= 0.5) - weight)
    mixed = _mix(a, b, weight)
    missing = lost_detail(a, b, mixed, weight) if settings.contrast else np.zeros_like(mixed)
    if settings.poisson:
        mixed = _gradient_blend(mixed + missing, a, b, weight, missing)
    else:
        mixed = mixed + missing
    return Blend(_to_rgb(mixed), weight)


def credit(swept: Swept) -> np.ndarray:
    """How much a direction deserves, (0, 1], (H, W): 1 where it follows its key, less the larger its error is."""
    known = np.float32(_UNSEEN) + swept.seen * np.float32(_UNVERIFIED - _UNSEEN)
    synthesis = known / (1 + swept.error / np.float32(_USUAL_ERROR))
    return swept.trust + (1 - swept.trust) * synthesis


def share(credit_a: np.ndarray, credit_b: np.ndarray, alpha: float) -> np.ndarray:
    """Share of the backward direction, by distance and credit: α·Cb : (1 - α)·Ca; (H, W)."""
    near, far = np.float32(1 - alpha) * credit_a, np.float32(alpha) * credit_b
    return far / (near + far)


def carry_weight(weight: np.ndarray, flow: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Carry the weight of the previous frame along the flow (this frame → previous): it does not fall again.

    Args:
        weight: (H, W). flow: (H, W, 2). holes: (H, W) bool, where the previous frame shows something else.
    """
    return np.where(holes, np.float32(0), warp(weight, flow))


def lost_detail(a: np.ndarray, b: np.ndarray, mixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What a mix lacks of the fine detail of its parts, (H, W, 3): to be added to it.

    Averaging keeps what the parts have in common and takes contrast from the rest. The energy of details within
    15×15 pixels tells how much, and they are amplified by up to 2 times. A local form of variance-preserving
    blending (Heitz and Neyret, 2018), for parts that correlate.
    """
    wanted = _mix(_energy(_detail(a)), _energy(_detail(b)), weight)
    detail = _detail(mixed)
    return (np.clip(wanted / np.maximum(_energy(detail), 0.1), 1, _MOST_CONTRAST) - 1) * detail


def _mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return a + weight[..., None] * (b - a)


def _detail(picture: np.ndarray) -> np.ndarray:
    return picture - cv2.blur(picture, (_DETAIL_WINDOW, _DETAIL_WINDOW))


def _energy(detail: np.ndarray) -> np.ndarray:
    """Root mean square around a pixel."""
    # Running sums leave a rest that may be negative.
    return np.sqrt(np.maximum(cv2.blur(detail**2, (_CONTRAST_WINDOW, _CONTRAST_WINDOW)), 0))


def _disagreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """0 … 1, how clearly the two directions show different things and not only other strokes; (H, W)."""
    means = cv2.blur(a - b, (_GHOST_WINDOW, _GHOST_WINDOW))
    distance = np.sqrt((means**2).sum(2))
    ramp = np.clip((distance - _GHOST_FROM) / (_GHOST_TO - _GHOST_FROM), 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _gradient_blend(
    mixed: np.ndarray, a: np.ndarray, b: np.ndarray, weight: np.ndarray, missing: np.ndarray
) -> np.ndarray:
    """Screened Poisson: colours of the mix, gradients mixed from those of its parts, so that weights leave no seam."""
    gradient_x, gradient_y = (
        _mix(_difference(a, axis), _difference(b, axis), weight) + _difference(missing, axis) for axis in (1, 0)
    )
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
