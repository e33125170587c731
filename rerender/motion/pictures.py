"""Flow in colours, and the key to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerender.motion.flow import FloatArray, UInt8Array

_SEGMENTS = (15, 6, 4, 11, 13, 6)  # hues between red, yellow, green, cyan, blue, magenta and red


def colour_wheel() -> NDArray[np.float64]:
    """The colours of all directions, (55, 3) in 0 to 1.

    Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011: more steps where the eye
    distinguishes more hues.
    """
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float64)
    parts = [
        corners[i] + (corners[i + 1] - corners[i]) * (np.arange(steps) / steps)[:, None]
        for i, steps in enumerate(_SEGMENTS)
    ]
    return np.concatenate(parts)


def flow_picture(flow: FloatArray, greatest: float) -> UInt8Array:
    """Flow (H, W, 2) as colours: hue is the direction, white is 0, full colour is `greatest` pixels, darker is more."""
    wheel = colour_wheel()
    u, v = flow[..., 0].astype(np.float64), flow[..., 1].astype(np.float64)
    radius = np.hypot(u, v) / max(greatest, 1e-6)
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(np.int64)
    share = (place - low)[..., None]
    colour = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    inside = (radius <= 1)[..., None]
    radius = radius[..., None]
    mixed = np.where(inside, 1 - radius * (1 - colour), 0.75 * colour)
    return np.rint(255 * mixed).astype(np.uint8)


def wheel_picture(side: int = 96) -> UInt8Array:
    """The key to `flow_picture`: each point has the colour of the flow that points there from the middle."""
    axis = np.linspace(-1, 1, side)
    flow = np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)
    picture = flow_picture(flow, 1.0)
    picture[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 255
    return picture
