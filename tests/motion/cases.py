"""Small picture pairs whose flow and occlusion are known exactly."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

Affine = NDArray[np.float64]  # (2, 3), maps frame coordinates (x, y, 1) to texture coordinates


class Pair(NamedTuple):
    """Two pictures a, b with the flow a → b and what of a is not to be seen in b (and the other way round)."""

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    forward: NDArray[np.float32]
    backward: NDArray[np.float32]
    hidden_a: NDArray[np.bool_]
    hidden_b: NDArray[np.bool_]


@lru_cache
def picture(name: str) -> NDArray[np.uint8]:
    """A photograph that scikit-image bundles, RGB."""
    bgr = cv2.imread(str(Path(skimage.data.__path__[0]) / name))
    assert bgr is not None
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def move(dx: float = 0.0, dy: float = 0.0, degrees: float = 0.0, zoom: float = 1.0, about=(0.0, 0.0)) -> Affine:
    angle = np.deg2rad(degrees)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.asarray(about, float)
    return np.c_[turn, centre - turn @ centre + (dx, dy)]


@lru_cache
def moved_photograph(name: str, size: int = 160) -> Pair:
    """A photograph that turns by 2°, grows by 3 % and moves by (4.3, -2.6) px; nothing covers anything."""
    height, width = picture(name).shape[:2]
    corner = move((width - size) / 2, (height - size) / 2)
    motion = move(-4.3, 2.6, 2.0, 1 / 1.03, (size / 2, size / 2))
    nowhere = move(1e6, 1e6)
    still = (corner, corner @ square(motion))
    return _render(name, size, still, still, (nowhere, nowhere), radius=0.0)


def zoomed_photograph(zoom: float, size: int = 128) -> Pair:
    """a is b seen from nearer, about the centre."""
    corner = move(150, 100)
    motion = move(zoom=zoom, about=((size - 1) / 2, (size - 1) / 2))
    still, nowhere = (corner @ square(_inverse(motion)), corner), move(1e6, 1e6)
    return _render("coffee.png", size, still, still, (nowhere, nowhere), radius=0.0)


@lru_cache
def layered(size: int = 160, shift: tuple[float, float] = (9.3, -4.6), degrees: float = 4.0) -> Pair:
    """A disc of one photograph turns and moves over another one, which pans and zooms."""
    centre = np.array([size * 0.45, size * 0.55])
    still = (move(120, 80), move(120, 80) @ square(move(-2.4, 1.7, 0.5, 1.01, (size / 2, size / 2))))
    disc_motion = move(-shift[0], -shift[1], degrees, 1.0, centre)
    disc = (move(60, 60), move(60, 60) @ square(disc_motion))
    discs = (move(-centre[0], -centre[1]), move(-centre[0], -centre[1]) @ square(disc_motion))
    return _render("coffee.png", size, still, disc, discs, radius=size * 0.24)


def _render(ground, size, still, disc, shape, radius) -> Pair:
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float64)
    on_disc = [np.hypot(*np.moveaxis(_apply(m, grid), -1, 0)) < radius for m in shape]
    frames, flows, hidden = [], [], []
    for i in (0, 1):
        layers = [
            _sample(picture(ground), _apply(still[i], grid)),
            _sample(picture("chelsea.png"), _apply(disc[i], grid)),
        ]
        frames.append(np.where(on_disc[i][..., None], layers[1], layers[0]))
        seen = [_apply(_inverse(m[1 - i]), _apply(m[i], grid)) for m in (still, disc)]
        where = np.where(on_disc[i][..., None], seen[1], seen[0])
        flows.append((where - grid).astype(np.float32))
        covered = np.hypot(*np.moveaxis(_apply(shape[1 - i], where), -1, 0)) < radius
        outside = ((where < -0.5) | (where > size - 0.5)).any(axis=-1)
        hidden.append(outside | (covered & ~on_disc[i]))
    return Pair(frames[0], frames[1], flows[0], flows[1], hidden[0], hidden[1])


def _sample(texture: NDArray[np.uint8], at: NDArray[np.float64]) -> NDArray[np.uint8]:
    x, y = np.moveaxis(at.astype(np.float32), -1, 0)
    return cv2.remap(texture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _apply(matrix: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def square(matrix: Affine) -> NDArray[np.float64]:
    return np.r_[matrix, [[0, 0, 1]]]


def _inverse(matrix: Affine) -> Affine:
    return np.linalg.inv(square(matrix))[:2]
