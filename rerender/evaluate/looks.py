"""Known styles: painterly looks by ordinary image processing, for training, for classifiers and for measurements.

The looks differ in structure (outlines, strokes, tiles, washes) and in palette, at scales that survive an
autoencoder with one latent for 8x8 pixels. A look moves nothing: edges stay where the frame has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.errors import UserError

Frame = NDArray[np.uint8]
Array = NDArray[Any]

TILE = 16
"""Side of a mosaic tile in pixels."""


def _unit(frame: Frame) -> Array:
    return frame.astype(np.float32) / 255


def _frame(picture: Array) -> Frame:
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _luma(picture: Array) -> Array:
    return picture @ np.array([0.299, 0.587, 0.114], np.float32)


def _blur(picture: Array, sigma: float) -> Array:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


def _saturate(picture: Array, amount: float) -> Array:
    grey = _luma(picture)[..., None]
    return np.clip(grey + (picture - grey) * amount, 0, 1)


def _smooth(picture: Array, radius: float, tone: float = 0.15, passes: int = 2) -> Array:
    """Edge-preserving smoothing."""
    for _ in range(passes):
        picture = cv2.bilateralFilter(picture, -1, tone, radius)
    return picture


def _edges(picture: Array, sigma: float = 1.6) -> Array:
    """Edge strength in [0, 1], lines about 4 px wide: the largest colour gradient, compressed."""
    soft = _blur(picture, sigma)
    gx, gy = cv2.Sobel(soft, -1, 1, 0, scale=0.25), cv2.Sobel(soft, -1, 0, 1, scale=0.25)
    strength = np.sqrt(gx**2 + gy**2).max(axis=-1)
    return np.clip((strength - 0.022) / 0.07, 0, 1)


def _gradient_map(tone: Array, stops: list[tuple[float, tuple[float, float, float]]]) -> Array:
    """Colours for tones in [0, 1] by linear interpolation between stops."""
    at = [position for position, _ in stops]
    return np.stack([np.interp(tone, at, [c[i] for _, c in stops]) for i in range(3)], axis=-1).astype(np.float32)


def _posterise(tone: Array, levels: int, softness: float = 0.12) -> Array:
    """Tones in [0, 1] in steps whose edges are soft enough not to flicker."""
    scaled = tone * levels
    base = np.floor(scaled)
    step = np.clip((scaled - base - 0.5) / softness + 0.5, 0, 1)
    return (base + step) / levels


def _photo(picture: Array) -> Array:
    return picture


def _pencil(picture: Array) -> Array:
    """Graphite on white paper: grey outlines, and light shading of the dark parts."""
    tone = _luma(picture)
    shade = 1 - 0.38 * np.clip(0.75 - _blur(tone, 2), 0, 1) / 0.75

    drawn = np.clip(shade - 0.72 * _edges(picture, 1.2), 0, 1)
    return _gradient_map(drawn, [(0, (0.1, 0.1, 0.11)), (1, (0.97, 0.96, 0.94))])


def _oil(picture: Array) -> Array:
    """Thick, warm paint: flat dabs (Kuwahara filter) with light caught on their upper left sides."""
    dabs = _saturate(_kuwahara(picture, 5), 1.45)
    warm = np.clip(dabs * np.array([1.1, 0.92, 0.62], np.float32) + np.array([0.06, 0.02, 0.0], np.float32), 0, 1)
    relief = cv2.filter2D(_luma(dabs), -1, np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], np.float32) / 3)
    return np.clip(warm + 0.9 * _blur(relief, 1.0)[..., None], 0, 1)


def _kuwahara(picture: Array, radius: int) -> Array:
    """Each pixel takes the mean of whichever of its four neighbouring squares varies least."""
    window = (radius + 1, radius + 1)
    mean = cv2.blur(picture, window)
    variance = (cv2.blur(picture**2, window) - mean**2).sum(axis=-1)
    half = radius // 2 + radius % 2
    best, chosen = np.full(variance.shape, np.inf, np.float32), mean.copy()
    for dy, dx in ((-half, -half), (-half, half), (half, -half), (half, half)):
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        size = (picture.shape[1], picture.shape[0])
        v = cv2.warpAffine(variance, shift, size, borderMode=cv2.BORDER_REPLICATE)
        m = cv2.warpAffine(mean, shift, size, borderMode=cv2.BORDER_REPLICATE)
        better = v < best
        best, chosen = np.where(better, v, best), np.where(better[..., None], m, chosen)
    return chosen


def _watercolour(picture: Array) -> Array:
    """Thin washes on white paper: pale, with pigment gathered just inside the edges of each wash."""
    wash = _smooth(picture, 6)
    pale = 0.42 + 0.58 * _saturate(wash, 1.5)
    rim = np.clip(_edges(wash, 2.0) - 0.2, 0, 1)[..., None]
    return np.clip(pale * (1 - 0.22 * rim) * np.array([0.98, 1.0, 1.0], np.float32), 0, 1)


def _mosaic(picture: Array) -> Array:
    """Square tiles of one colour each, with dark grout between them."""
    height, width = picture.shape[:2]
    rows, cols = -(-height // TILE), -(-width // TILE)
    padded = cv2.copyMakeBorder(picture, 0, rows * TILE - height, 0, cols * TILE - width, cv2.BORDER_REPLICATE)
    means = padded.reshape(rows, TILE, cols, TILE, 3).mean(axis=(1, 3))
    tiles = np.repeat(np.repeat(_saturate(means, 1.6), TILE, 0), TILE, 1)
    y, x = np.mgrid[0 : rows * TILE, 0 : cols * TILE] % TILE
    grout = (np.minimum(x, y) < 1) | (np.maximum(x, y) >= TILE - 2)
    tiles[grout] = (0.16, 0.15, 0.15)
    return tiles[:height, :width]


def _ink(picture: Array) -> Array:
    """Ink wash: three tones of blue-black on ivory, edges darkened."""
    tone = _luma(_smooth(picture, 6))
    tone = _posterise(np.clip((tone - 0.12) / 0.7, 0, 1), 3)
    tone = np.clip(tone - 0.5 * _edges(picture, 1.8), 0, 1)
    return _gradient_map(tone, [(0, (0.06, 0.08, 0.22)), (0.5, (0.42, 0.48, 0.66)), (1, (0.97, 0.94, 0.84))])


def _neon(picture: Array) -> Array:
    """Glowing outlines in pure hues on a near-black ground."""
    edges = _edges(picture, 1.6)
    lines = np.clip(edges + 0.6 * _blur(edges, 4), 0, 1)[..., None]
    soft = _blur(picture, 3)
    hue = cv2.cvtColor(soft, cv2.COLOR_RGB2HSV)
    hue[..., 1], hue[..., 2] = 0.9, 1.0
    glow = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)
    return np.clip(lines * glow + (1 - lines) * (0.02 + 0.10 * soft * np.array([0.5, 0.4, 1.0], np.float32)), 0, 1)


def _comic(picture: Array) -> Array:
    """Flat, loud colours in few steps with heavy black outlines."""
    flat = _saturate(_smooth(picture, 5), 1.9)
    tone = _luma(flat)
    steps = _posterise(np.clip(0.15 + 1.0 * tone, 0, 1), 3, 0.2)
    flat = np.clip(flat * (np.clip(steps, 0.2, 1) / np.maximum(tone, 0.05))[..., None], 0, 1)
    ink = np.clip((_edges(picture, 1.6) - 0.25) * 2.2, 0, 1)[..., None]
    return flat * (1 - ink)


LOOKS: dict[str, Callable[[Array], Array]] = {
    "photo": _photo,
    "pencil": _pencil,
    "oil": _oil,
    "watercolour": _watercolour,
    "mosaic": _mosaic,
    "ink": _ink,
    "neon": _neon,
    "comic": _comic,
}

PHRASES: dict[str, str] = {
    "photo": "a photo of",
    "pencil": "a pencil sketch of",
    "oil": "an oil painting of",
    "watercolour": "a watercolour of",
    "mosaic": "a mosaic of",
    "ink": "an ink wash of",
    "neon": "a neon drawing of",
    "comic": "a comic of",
}
"""How a caption begins that asks for the look."""


def apply_look(frame: Frame, name: str) -> Frame:
    """Give a frame a look.

    Args:
        frame: uint8 RGB (H, W, 3).
        name: one of `LOOKS`.

    Raises:
        UserError: there is no such look.
    """
    if name not in LOOKS:
        raise UserError(f"There is no look called {name!r}.", hint=f"Looks: {', '.join(LOOKS)}.")
    return _frame(LOOKS[name](_unit(frame)))
