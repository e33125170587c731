"""Outlines of objects as signed distances (negative inside, in pixels of the object's own plane)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Outline = Callable[[Array, Array, float], Array]


def _circle(x: Array, y: Array, r: float) -> Array:
    return np.hypot(x, y) - r


def _square(x: Array, y: Array, r: float) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.85 * r


def _polygon(x: Array, y: Array, r: float, sides: int) -> Array:
    """A regular polygon: the farthest of its half-planes."""
    angles = 2 * np.pi * np.arange(sides) / sides + np.pi / 2
    return np.max([x * np.cos(a) + y * np.sin(a) for a in angles], axis=0) - r * np.cos(np.pi / sides)


def _triangle(x: Array, y: Array, r: float) -> Array:
    return _polygon(x, y + 0.2 * r, 1.2 * r, 3)


def _star(x: Array, y: Array, r: float) -> Array:
    angle = np.arctan2(x, -y)
    spike = np.abs((angle / (2 * np.pi) * 5 + 0.5) % 1 - 0.5) * 2  # 0 at a tip, 1 in a notch
    return (np.hypot(x, y) - r * (1.15 - 0.68 * spike)) * 0.6


def _ring(x: Array, y: Array, r: float) -> Array:
    return np.abs(np.hypot(x, y) - 0.75 * r) - 0.28 * r


def _heart(x: Array, y: Array, r: float) -> Array:
    u, v = x / r, -y / r
    value = (u**2 + v**2 - 0.8) ** 3 - 1.6 * u**2 * v**3
    # Dividing by the gradient makes the implicit curve a distance near its edge.
    du = 6 * u * (u**2 + v**2 - 0.8) ** 2 - 3.2 * u * v**3
    dv = 6 * v * (u**2 + v**2 - 0.8) ** 2 - 4.8 * u**2 * v**2
    return r * value / np.maximum(np.hypot(du, dv), 0.35)


def _cross(x: Array, y: Array, r: float) -> Array:
    ax, ay = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(ax, ay) - 0.34 * r, np.maximum(ax, ay) - r)


def _flower(x: Array, y: Array, r: float) -> Array:
    return (np.hypot(x, y) - r * (0.85 + 0.22 * np.cos(6 * np.arctan2(y, x)))) * 0.8


SHAPES: dict[str, Outline] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "heart": _heart,
    "cross": _cross,
    "flower": _flower,
}


def distance(name: str, x: Array, y: Array, radius: float) -> Array:
    """Signed distance (approximate away from the edge) of points to the named outline, same shape as x."""
    return SHAPES[name](x, y, radius)
