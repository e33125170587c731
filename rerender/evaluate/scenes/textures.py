"""Procedural textures: periodic RGB pictures with a name that captions can use.

Spectra fall like those of photographs (amplitude about 1/f), so that optical flow finds structure at every scale and
an autoencoder finds nothing that a photograph would not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 512
"""Side of every texture in pixels; textures repeat with this period in both directions."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.16, 0.14),
    "orange": (0.92, 0.52, 0.14),
    "yellow": (0.92, 0.82, 0.22),
    "green": (0.20, 0.58, 0.24),
    "blue": (0.16, 0.34, 0.78),
    "purple": (0.50, 0.24, 0.64),
    "pink": (0.92, 0.56, 0.68),
    "white": (0.92, 0.91, 0.88),
    "black": (0.12, 0.12, 0.14),
}


def noise(rng: np.random.Generator, slope: float = 1.5, stretch: tuple[float, float] = (1.0, 1.0)) -> Array:
    """Periodic noise of spectrum 1/f^slope, mean 0, standard deviation 1, (TILE, TILE); `stretch` widens (y, x)."""
    fy = np.fft.fftfreq(TILE)[:, None] * stretch[0]
    fx = np.fft.rfftfreq(TILE)[None, :] * stretch[1]
    radius = np.sqrt(fy**2 + fx**2)
    # The floor at 1/256 keeps one frame from being a single slope; the roll-off keeps bilinear sampling exact enough.
    envelope = (radius + 1 / 256) ** -slope * np.exp(-((radius / 0.22) ** 2))
    envelope[0, 0] = 0
    phase = rng.uniform(0, 2 * np.pi, envelope.shape)
    field = np.fft.irfft2(envelope * np.exp(1j * phase), s=(TILE, TILE))
    return (field / field.std()).astype(np.float32)


def _mix(colour: tuple[float, float, float], *terms: tuple[Array, tuple[float, float, float]]) -> Array:
    """A base colour plus fields times colour directions, clipped to [0, 1]; (TILE, TILE, 3)."""
    picture = np.broadcast_to(np.array(colour, np.float32), (TILE, TILE, 3)).copy()
    for field, direction in terms:
        picture += field[..., None] * np.array(direction, np.float32)
    return np.clip(picture, 0, 1)


def _grid() -> tuple[Array, Array]:
    axis = np.arange(TILE, dtype=np.float32) * np.float32(2 * np.pi / TILE)
    return axis[:, None], axis[None, :]


def _soft(field: Array, gain: float) -> Array:
    """A smooth step: fields become mostly -1 or 1, with edges a few pixels wide."""
    return np.tanh(field * gain).astype(np.float32)


def _grass(rng: np.random.Generator) -> Array:
    blades = noise(rng, 1.2, (0.35, 1.6))
    return _mix((0.26, 0.46, 0.16), (blades, (0.05, 0.07, 0.03)), (noise(rng, 2.2), (0.06, 0.05, 0.01)))


def _sand(rng: np.random.Generator) -> Array:
    y, x = _grid()
    ripples = np.sin(14 * y + 2 * np.sin(2 * x) + 1.2 * noise(rng, 2.5)).astype(np.float32)
    return _mix((0.78, 0.68, 0.48), (ripples, (0.06, 0.06, 0.05)), (noise(rng, 1.6), (0.05, 0.05, 0.05)))


def _water(rng: np.random.Generator) -> Array:
    y, _ = _grid()
    waves = np.sin(11 * y + 1.8 * noise(rng, 2.2, (1.0, 0.5))).astype(np.float32)
    glint = np.maximum(noise(rng, 1.8, (1.6, 0.5)) - 1, 0)
    return _mix((0.14, 0.40, 0.56), (waves, (0.04, 0.09, 0.10)), (glint, (0.28, 0.28, 0.26)))


def _bricks(rng: np.random.Generator) -> Array:
    rows, cols = np.mgrid[0:TILE, 0:TILE]
    height, width = 32, 64
    shifted = cols + (rows // height % 2) * (width // 2)
    across = np.minimum(rows % height, height - rows % height)
    along = np.minimum(shifted % width, width - shifted % width)
    mortar = np.clip((4 - np.minimum(across, along)) / 3, 0, 1).astype(np.float32)
    tones = rng.normal(0, 1, (TILE // height, TILE // width + 1)).astype(np.float32)
    tone = tones[rows // height, shifted // width % (TILE // width)]
    wall = _mix((0.58, 0.28, 0.20), (tone, (0.06, 0.04, 0.03)), (noise(rng, 1.5), (0.05, 0.04, 0.04)))
    return wall + mortar[..., None] * (np.array((0.70, 0.67, 0.62), np.float32) - wall)


def _wood(rng: np.random.Generator) -> Array:
    _, x = _grid()
    rings = np.sin(16 * x + 2.2 * noise(rng, 2.6, (0.3, 1.2))).astype(np.float32)
    return _mix((0.50, 0.33, 0.19), (rings, (0.09, 0.07, 0.05)), (noise(rng, 1.4, (0.2, 1.5)), (0.04, 0.03, 0.03)))


def _clouds(rng: np.random.Generator) -> Array:
    cover = np.clip(0.45 + 0.35 * noise(rng, 2.1), 0, 1)
    return _mix((0.36, 0.56, 0.86), (cover, (0.56, 0.40, 0.12)), (noise(rng, 1.8), (0.02, 0.02, 0.02)))


def _stone(rng: np.random.Generator) -> Array:
    cracks = np.exp(-((noise(rng, 2.0) / 0.12) ** 2)).astype(np.float32)
    return _mix((0.54, 0.53, 0.51), (noise(rng, 1.5), (0.08, 0.08, 0.08)), (cracks, (-0.22, -0.22, -0.22)))


def _tiles(rng: np.random.Generator) -> Array:
    y, x = _grid()
    board = _soft(np.sin(8 * y) * np.sin(8 * x), 6)
    return _mix((0.62, 0.58, 0.54), (board, (0.24, 0.25, 0.24)), (noise(rng, 1.6), (0.05, 0.05, 0.05)))


def _leaves(rng: np.random.Generator) -> Array:
    patches = _soft(noise(rng, 1.9), 1.6)
    return _mix((0.50, 0.38, 0.14), (patches, (0.22, 0.08, 0.03)), (noise(rng, 1.5), (0.07, 0.07, 0.03)))


def _snow(rng: np.random.Generator) -> Array:
    drifts = noise(rng, 2.3, (1.4, 0.7))
    return _mix((0.84, 0.88, 0.93), (drifts, (0.08, 0.06, 0.04)), (noise(rng, 1.3), (0.02, 0.02, 0.02)))


BACKGROUNDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "bricks": _bricks,
    "wood": _wood,
    "clouds": _clouds,
    "stone": _stone,
    "tiles": _tiles,
    "leaves": _leaves,
    "snow": _snow,
}


def background(name: str, rng: np.random.Generator) -> Array:
    """The texture of a named ground, float32 in [0, 1], (TILE, TILE, 3), periodic."""
    return BACKGROUNDS[name](rng)


def surface(colour: str, rng: np.random.Generator) -> Array:
    """The skin of a coloured object: plain, striped or spotted with grain, (TILE, TILE, 3), periodic."""
    y, x = _grid()
    base = COLOURS[colour]
    # Marks go towards the far end of the brightness scale, so that they show on black as on white.
    mark = 0.34 if sum(base) < 1.5 else -0.34
    pattern = rng.choice(["plain", "striped", "spotted"])
    if pattern == "striped":
        marks = (_soft(np.sin(16 * y + 6 * x + 0.3 * noise(rng, 2.5)), 4) + 1) / 2
    elif pattern == "spotted":
        marks = (_soft(np.sin(12 * y) * np.sin(12 * x) - 0.45, 9) + 1) / 2
    else:
        marks = np.zeros((TILE, TILE), np.float32)
    grain, shade = noise(rng, 1.5), noise(rng, 2.6)
    return _mix(base, (marks, (mark, mark, mark)), (grain, (0.04, 0.04, 0.04)), (shade, (0.06, 0.06, 0.06)))


def for_scale(texture: Array, scale: float) -> Array:
    """The texture blurred as far as being shown at `scale` < 1 needs, so that it does not alias."""
    if scale >= 1:
        return texture
    sigma = 0.45 * (scale**-2 - 1) ** 0.5
    margin = min(TILE, int(4 * sigma) + 1)
    wrapped = cv2.copyMakeBorder(texture, margin, margin, margin, margin, cv2.BORDER_WRAP)
    return cv2.GaussianBlur(wrapped, (0, 0), sigma)[margin:-margin, margin:-margin]


def sample(texture: Array, x: NDArray[Any], y: NDArray[Any]) -> Array:
    """The texture at real coordinates (bilinear, periodic): x and y (H, W) to (H, W, 3).

    Written out because `cv2.remap` rounds coordinates to 1/32 pixel, which an exact flow must not be judged by.
    """
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0)[..., None].astype(np.float32), (y - y0)[..., None].astype(np.float32)
    x0, y0 = x0 % TILE, y0 % TILE
    x1, y1 = (x0 + 1) % TILE, (y0 + 1) % TILE
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
