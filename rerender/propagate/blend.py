"""One picture from the two directions: choice by error and distance, mix, and gradient-domain blend in Lab."""

from __future__ import annotations

from dataclasses import dataclass

from rerender.arrays import Array, namespace
from rerender.arrays.smoothstep import smoothstep
from rerender.propagate.detail import missing_detail
from rerender.propagate.poisson import screened_poisson
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import Swept

GAIN_L, GAIN_AB = 2.5, 0.5
_GHOST_WINDOW = 9
_GHOST_FROM, _GHOST_TO = 8.0, 20.0  # CIE Lab distance of the local means
_USUAL_ERROR = 2000.0  # of a synthesis, below which differences of errors say nothing
_ERROR_WINDOW = 11
_UNVERIFIED, _UNSEEN = 0.4, 0.1  # credit of what was not followed, where its key shows it, and where it does not


@dataclass(frozen=True)
class Blend:
    """A blended frame.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        weight: (H, W) float32 in [0, 1], the share of the backward direction.
    """

    picture: Array
    weight: Array


def blend(
    forward: Swept,
    backward: Swept,
    alpha: float,
    settings: PropagationSettings,
    latched: Array | None = None,
) -> Blend:
    """Blend both directions of one frame.

    Args:
        forward, backward: the frame as it comes from the key before and from the key after it.
        alpha: distance to the key before / distance between the keys, in (0, 1): the weight of `backward`.
        settings: contrast, poisson, ghost_check.
        latched: (H, W) float32, the previous frame's weight carried here (see `carry_weight`).
    """
    xp = namespace(forward.picture)
    weight = share(credit(forward), credit(backward), alpha)
    if latched is not None:
        weight = xp.maximum(weight, latched)
    a, b = xp.to_lab(forward.picture), xp.to_lab(backward.picture)
    if settings.ghost_check:
        weight = weight + _disagreement(a, b) * (xp.astype(weight >= 0.5, xp.float32) - weight)
    mixed = _mix(a, b, weight)
    missing = xp.zeros(mixed.shape, mixed.dtype)
    if settings.contrast:
        parts = ((forward.detail, backward.detail), (forward.trust, backward.trust))
        missing = missing_detail(mixed, *(first + weight * (second - first) for first, second in parts))
    if settings.poisson:
        mixed = _gradient_blend(mixed + missing, a, b, weight, missing)
    else:
        mixed = mixed + missing
    return Blend(xp.from_lab(mixed), weight)


def finish(swept: Swept, settings: PropagationSettings) -> Array:
    """Return the picture of a frame that has one direction only, (H, W, 3) uint8, with the detail that it lacks."""
    if not settings.contrast:
        return swept.picture
    xp = namespace(swept.picture)
    lab = xp.to_lab(swept.picture)
    missing = missing_detail(lab, swept.detail, swept.trust)
    lacking = (missing != 0).any(2)
    return xp.where(lacking[..., None], xp.from_lab(lab + missing), swept.picture)  # colours make no detour in vain


def credit(swept: Swept) -> Array:
    """How much a direction deserves, (0, 1], (H, W): 1 where it follows its key, less the larger its error is."""
    known = _UNSEEN + swept.seen * (_UNVERIFIED - _UNSEEN)
    # What lies side by side is to come from one direction, or outlines are pieced together from two.
    error = namespace(known).blur(swept.error, _ERROR_WINDOW)
    synthesis = known / (1 + error / _USUAL_ERROR)
    return swept.trust + (1 - swept.trust) * synthesis


def share(credit_a: Array, credit_b: Array, alpha: float) -> Array:
    """Share of the backward direction, by distance and credit: α·Cb : (1 - α)·Ca; (H, W)."""
    near, far = (1 - alpha) * credit_a, alpha * credit_b
    return far / (near + far)


def carry_weight(weight: Array, flow: Array, holes: Array) -> Array:
    """Carry the weight of the previous frame along the flow (this frame → previous): it does not fall again.

    Args:
        weight: (H, W). flow: (H, W, 2). holes: (H, W) bool, where the previous frame shows something else.
    """
    xp = namespace(weight)
    return xp.where(holes, 0.0, xp.warp(weight, flow))


def _mix(a: Array, b: Array, weight: Array) -> Array:
    return a + weight[..., None] * (b - a)


def _disagreement(a: Array, b: Array) -> Array:
    """0 … 1, how clearly the two directions show different things and not only other strokes; (H, W)."""
    xp = namespace(a)
    means = xp.blur(a - b, _GHOST_WINDOW)
    return smoothstep(xp.sqrt((means**2).sum(2)), _GHOST_FROM, _GHOST_TO)


def _gradient_blend(mixed: Array, a: Array, b: Array, weight: Array, missing: Array) -> Array:
    """Screened Poisson: colours of the mix, gradients mixed from those of its parts, so that weights leave no seam."""
    gradient_x, gradient_y = (
        _mix(_difference(a, axis), _difference(b, axis), weight) + _difference(missing, axis) for axis in (1, 0)
    )
    parts = [
        screened_poisson(mixed[..., c], gradient_x[..., c], gradient_y[..., c], gain)
        for c, gain in ((slice(0, 1), GAIN_L), (slice(1, 3), GAIN_AB))
    ]
    return namespace(mixed).concat(parts, 2)


def _difference(image: Array, axis: int) -> Array:
    """Forward differences, 0 in the last row or column."""
    steps = namespace(image).zeros(image.shape, image.dtype)
    if axis == 0:
        steps[:-1] = image[1:] - image[:-1]
    else:
        steps[:, :-1] = image[:, 1:] - image[:, :-1]
    return steps
