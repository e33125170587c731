"""The kinds of scenes, and the scenes that are kept out of every training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rerender.errors import UserError
from rerender.evaluate.scenes import textures
from rerender.evaluate.scenes.poses import Path
from rerender.evaluate.scenes.scene import Layer, Light, Scene, Shot
from rerender.evaluate.scenes.shapes import SHAPES

Rng = np.random.Generator
Mover = Callable[[Rng, int, float], tuple[Path, ...]]
"""(random numbers, object count, pixels per unit) to the paths of the background and of each object, back to front.
Object paths are added to resting places. A unit is 1/256 of the shorter side."""


def _signed(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high) * rng.choice([-1, 1]))


def _direction(rng: Rng, low: float, high: float) -> tuple[float, float]:
    speed, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    return float(speed * np.cos(angle)), float(speed * np.sin(angle))


def _translation(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    ground = Path(velocity=_direction(rng, 0.5 * unit, 2 * unit))
    return (ground, *(Path(velocity=_direction(rng, 2 * unit, 5 * unit)) for _ in range(count)))


def _rotation(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    ground = Path(spin=_signed(rng, 0.005, 0.02))
    return (ground, *(Path(spin=_signed(rng, 0.05, 0.14)) for _ in range(count)))


def _zoom(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    growth = float(np.exp(_signed(rng, 0.012, 0.03)))
    return tuple(Path(growth=growth) for _ in range(count + 1))


def _parallax(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    dx, dy = _direction(rng, 1.5 * unit, 2 * unit)
    return tuple(Path(velocity=(dx * near, dy * near)) for near in 0.5 + np.arange(count + 1))


def _fast(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    ground = Path(velocity=_direction(rng, 3 * unit, 6 * unit))
    return (ground, *(Path(velocity=_direction(rng, 12 * unit, 20 * unit)) for _ in range(count)))


def _deformation(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    def bending() -> Path:
        return Path(
            bend=float(rng.uniform(3, 5)) * unit,
            wavelength=float(rng.uniform(70, 110)) * unit,
            bend_rate=_signed(rng, 0.25, 0.5),
            velocity=_direction(rng, 0, 1.5 * unit),
        )

    return tuple(bending() for _ in range(count + 1))


def _enter_leave(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    """Objects cross the picture: at the middle of the clip they are in it, at both ends mostly out of it."""
    ground = Path(velocity=_direction(rng, 0, 1 * unit))
    sideways = [(_signed(rng, 22, 32) * unit, float(rng.uniform(-2, 2)) * unit) for _ in range(count)]
    return (ground, *(Path(velocity=v) for v in sideways))


def _lighting(rng: Rng, count: int, unit: float) -> tuple[Path, ...]:
    return tuple(Path(velocity=_direction(rng, 0.3 * unit, 1.2 * unit)) for _ in range(count + 1))


MOVERS: dict[str, Mover] = {
    "translation": _translation,
    "rotation": _rotation,
    "zoom": _zoom,
    "parallax": _parallax,
    "fast": _fast,
    "deformation": _deformation,
    "enter_leave": _enter_leave,
    "cut": _translation,
    "lighting": _lighting,
}

KINDS: tuple[str, ...] = tuple(MOVERS)
"""Names that `scene` accepts."""

FIRST_HELD_OUT_SEED = 9000
"""Seeds from here on never enter a training."""

HELD_OUT: tuple[tuple[str, int], ...] = tuple((kind, FIRST_HELD_OUT_SEED + n) for n in range(2) for kind in KINDS)
"""(kind, seed) of the scenes that reports measure on."""


def _changing_light(rng: Rng) -> Light:
    """Brightness sways, the lit side wanders and the light turns warmer or colder; flow is not touched."""
    speed, phase = rng.uniform(0.25, 0.5), rng.uniform(0, 2 * np.pi)
    warmth = _signed(rng, 0.008, 0.016)

    def light(time: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        side = np.cos(speed * time + phase)
        gain = 0.95 + 0.18 * np.sin(speed * time) + 0.25 * side * (x - 0.5)
        return gain[..., None] * (1 + warmth * time * np.array([1.0, 0.0, -1.0]))

    return light


def _places(rng: Rng, count: int, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Resting places spread over the picture: one in each of `count` columns, in random order."""
    height, width = size
    columns = rng.permutation(count)
    return [
        (float(width * (c + rng.uniform(0.3, 0.7)) / count), float(height * rng.uniform(0.3, 0.7))) for c in columns
    ]


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _caption(names: list[str], ground: str) -> str:
    return " and ".join(f"{_article(name)} {name}" for name in names) + f" on {ground}"


def _shot(rng: Rng, kind: str, size: tuple[int, int]) -> Shot:
    unit = min(size) / 256
    count = 3 if kind == "parallax" else int(rng.integers(1, 4))
    ground_path, *paths = MOVERS[kind](rng, count, unit)
    ground = str(rng.choice(list(textures.BACKGROUNDS)))
    middle = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    ground_path = replace(ground_path, centre=middle, angle=float(rng.uniform(-0.15, 0.15)), scale=unit)
    layers = [Layer(ground, textures.for_scale(textures.background(ground, rng), unit), ground_path)]
    colours = rng.choice(list(textures.COLOURS), count, replace=False)
    for path, colour, place in zip(paths, colours, _places(rng, count, size), strict=True):
        outline = str(rng.choice(list(SHAPES)))
        path = replace(path, centre=place, angle=float(rng.uniform(-0.4, 0.4)), scale=unit)
        radius = float(rng.uniform(58, 80) if count == 1 else rng.uniform(32, 50))
        skin = textures.for_scale(textures.surface(str(colour), rng), unit)
        layers.append(Layer(f"{colour} {outline}", skin, path, outline, radius))
    light = _changing_light(rng) if kind == "lighting" else None
    # Nearest first: what a viewer would name first.
    return Shot(tuple(layers), _caption([layer.name for layer in layers[:0:-1]], ground), light)


def scene(kind: str, seed: int = 0, size: tuple[int, int] = (256, 256), frames: int = 12) -> Scene:
    """Make the scene of a kind and seed; equal arguments give equal scenes.

    Args:
        kind: one of `KINDS`.
        seed: seeds from `FIRST_HELD_OUT_SEED` on are kept out of training.
        size: (height, width) in pixels. Objects and speeds scale with the shorter side.
        frames: length of the clip; motion is centred on its middle. "cut" changes shot at frames // 2.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in MOVERS:
        raise UserError(f"There is no scene of kind {kind!r}.", hint=f"Kinds: {', '.join(KINDS)}.")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    if kind == "cut":
        shots = (_shot(rng, kind, size), _shot(rng, kind, size))
        return Scene(kind, seed, size, shots, tuple(int(i >= frames // 2) for i in range(frames)))
    return Scene(kind, seed, size, (_shot(rng, kind, size),), (0,) * frames)
