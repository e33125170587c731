"""Judges of a restyled frame: which look it has, and whether it kept the layout."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.looks import LOOKS, apply_look

Frame = NDArray[np.uint8]
CELL = 8


def descriptor(picture: Frame) -> NDArray[np.float64]:
    """Mean colour and contrast of cells of 8x8 pixels, smoothed over 3x3 cells; values around 0 to 1."""
    unit = picture.astype(np.float32) / 255
    size = (picture.shape[1] // CELL, picture.shape[0] // CELL)
    mean = cv2.resize(unit, size, interpolation=cv2.INTER_AREA)
    square = cv2.resize(unit**2, size, interpolation=cv2.INTER_AREA)
    contrast = np.sqrt(np.maximum(square - mean**2, 0)).mean(axis=-1, keepdims=True)
    cells = np.concatenate([mean, 2 * contrast], axis=-1)
    return cv2.blur(cells, (3, 3)).astype(np.float64).ravel()


def nearest_look(picture: Frame, source: Frame) -> str:
    """The look of `source` that `picture` is nearest to, by descriptors; both uint8 (H, W, 3) of equal size."""
    seen = descriptor(picture)
    distances = {look: np.linalg.norm(seen - descriptor(apply_look(source, look))) for look in LOOKS}
    return min(distances, key=lambda look: distances[look])


def _edge_map(picture: Frame) -> NDArray[Any]:
    luma = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
    return cv2.magnitude(cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1))


def edge_correlation(a: Frame, b: Frame) -> float:
    """Pearson correlation of the gradient magnitudes of luma."""
    return float(np.corrcoef(_edge_map(a).ravel(), _edge_map(b).ravel())[0, 1])
