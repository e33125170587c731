"""How a layer lies in the picture at each moment: similarity transform plus a smooth, invertible deformation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_INVERSE_STEPS = 40


@dataclass(frozen=True)
class Path:
    """Constant-rate motion of a layer, centred on the middle of the clip.

    A point u of the layer's plane is seen at `centre + scale R(angle) (u + deformation(u))`. Angles are in radians,
    lengths in pixels, rates per frame; `growth` multiplies the scale at each frame.
    """

    centre: tuple[float, float] = (0.0, 0.0)
    velocity: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    scale: float = 1.0
    growth: float = 1.0
    bend: float = 0.0
    """Amplitude of the deformation in pixels."""
    wavelength: float = 80.0
    """Wavelength of the deformation in pixels; must exceed 2 pi bend / 0.5 for the map to be invertible."""
    bend_rate: float = 0.0
    """Phase change of the deformation per frame."""

    def __post_init__(self) -> None:
        if 2 * np.pi * abs(self.bend) / self.wavelength > 0.5:
            raise ValueError(f"bend {self.bend} at wavelength {self.wavelength} is not safely invertible")

    def at(self, time: float) -> Pose:
        """The pose at `time` frames from the middle of the clip."""
        x, y = self.centre
        return Pose(
            offset=(x + self.velocity[0] * time, y + self.velocity[1] * time),
            angle=self.angle + self.spin * time,
            scale=self.scale * self.growth**time,
            bend=self.bend,
            wavelength=self.wavelength,
            phase=self.bend_rate * time,
        )


@dataclass(frozen=True)
class Pose:
    """One moment of a `Path`: maps between the layer's plane and the picture."""

    offset: tuple[float, float]
    angle: float
    scale: float
    bend: float
    wavelength: float
    phase: float

    def _deformation(self, u: Array, v: Array) -> tuple[Array, Array]:
        k = 2 * np.pi / self.wavelength
        return self.bend * np.sin(k * v + self.phase), self.bend * np.sin(k * u + 1.3 * self.phase + 1.0)

    def to_picture(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Where points of the layer's plane are seen."""
        du, dv = self._deformation(u, v)
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return (
            cos * (u + du) - sin * (v + dv) + self.offset[0],
            sin * (u + du) + cos * (v + dv) + self.offset[1],
        )

    def to_layer(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Which point of the layer's plane is seen at (x, y): exact, or to 1e-9 px where it deforms."""
        cos, sin = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        dx, dy = x - self.offset[0], y - self.offset[1]
        u0, v0 = cos * dx + sin * dy, -sin * dx + cos * dy
        if self.bend == 0:
            return u0, v0
        u, v = u0, v0
        for _ in range(_INVERSE_STEPS):  # a contraction by at most 1/2 a step
            du, dv = self._deformation(u, v)
            u, v = u0 - du, v0 - dv
        return u, v
