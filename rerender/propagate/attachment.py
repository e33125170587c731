"""Whose motion a pixel shares: an outline drawn outside of an object moves with it, not with what it lies on."""

from __future__ import annotations

from rerender.arrays import Array, namespace
from rerender.propagate.guides import Input, pixel_grid

_AROUND = tuple((dy, dx) for dy in (-4, 0, 4) for dx in (-4, 0, 4) if (dy, dx) != (0, 0))  # an outline is that far off
_WINDOW = 5
_OUTLINES = 0.35  # a level of the outlines' picture against one of brightness
_BETTER = 1.5  # levels that another motion must explain the frame better by than the pixel's own


def shared_motion(key: Input, here: Input, motion: Array) -> tuple[Array, Array]:
    """Let each pixel take the motion of a neighbour where that explains the outlines better than its own does.

    Brightness and outlines of the key, sampled along the flow of each of eight neighbours 4 pixels away, are compared
    with the frame's; means over 5×5 pixels.

    Args:
        key, here: the inputs of the key frame and of the frame.
        motion: (H, W, C) float32: the flow to the key in the first two channels, and what goes with it.

    Returns:
        (H, W, C), motion with the channels of the chosen neighbours; (H, W) bool, where it is not the pixel's own.
    """
    xp = namespace(motion)
    drawn, wanted = _drawn(key), _drawn(here)
    chosen, own = motion, _unlike(drawn, wanted, motion) - _BETTER
    least = own
    for dy, dx in _AROUND:
        other = _shifted(motion, dy, dx)
        cost = _unlike(drawn, wanted, other)
        better = cost < least
        chosen, least = xp.where(better[..., None], other, chosen), xp.minimum(cost, least)
    return chosen, least < own


def _drawn(picture: Input) -> Array:
    """Brightness and outlines, (H, W, 2) float32."""
    xp = namespace(picture.frame)
    brightness = xp.astype(picture.frame, xp.float32).mean(2)
    return xp.stack([brightness, _OUTLINES * picture.outlines], 2)


def _unlike(drawn: Array, wanted: Array, motion: Array) -> Array:
    """Difference between a frame and what a motion makes of its key, (H, W)."""
    xp = namespace(motion)
    places = xp.constant(pixel_grid, *motion.shape[:2]) + motion[..., :2]
    return xp.blur(xp.abs(xp.sample(drawn, places, "cubic") - wanted).sum(2), _WINDOW)


def _shifted(array: Array, dy: int, dx: int) -> Array:
    """What an array has at p + (dx, dy); edges repeat."""
    (height, width), reach = array.shape[:2], max(abs(dy), abs(dx))
    rows, columns = slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width)
    return namespace(array).pad(array, reach, reach)[rows, columns]
