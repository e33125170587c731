"""Where a style may draw an outline, told from the source alone.

Styles draw outlines on both sides of an edge. Outside of the object a pixel has the colour and the motion of the
background; only what is near tells that it belongs to the outline. So whoever follows the background is to look here
whether what is found there is ink of something else: propagation from frame to frame, detail fusion from key frame to
key frame.
"""

from __future__ import annotations

from rerender.arrays import Array, namespace
from rerender.arrays.smoothstep import smoothstep

_SOFT, _FULL = 1.6, 40.0  # sigma of the blur before steps are measured; levels of a full one
_WIDTH, _RIM = 5, 1.5  # pixels that an edge is widened to, and sigma of its rim
_ALIKE, _UNLIKE = 30.0, 90.0  # difference of two outline pictures: up to where and from where on it counts
_WINDOW = 3


def outline_picture(frame: Array) -> Array:
    """Where a style may draw an outline, (H, W, 3) uint8 → (H, W) float32 in 0–255, full at clear edges."""
    xp = namespace(frame)
    soft = xp.gaussian(xp.astype(frame, xp.float32), _SOFT)
    steps = xp.dilate(soft, 3) - xp.erode(soft, 3)
    largest = xp.maximum(xp.maximum(steps[..., 0], steps[..., 1]), steps[..., 2])
    edges = xp.clip(largest * (255 / _FULL), 0, 255)
    return xp.gaussian(xp.dilate(edges, _WIDTH), _RIM)


def same_outlines(difference: Array) -> Array:
    """How far two places may have the same drawn on them, in [0, 1], (H, W).

    difference: (H, W) float32, 0 or above, by how much their outline pictures differ.
    """
    return 1 - smoothstep(namespace(difference).blur(difference, _WINDOW), _ALIKE, _UNLIKE)
