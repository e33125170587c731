"""Pictures of the report: hidden areas, errors, slices through time; and how they are embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rerender.evaluate.metrics import along
from rerender.evaluate.motion import Flow, Frame, Mask

ERROR_RANGE = 48.0
"""Levels that the brightest colour of an error picture stands for."""


def hidden_picture(frame: Frame, visible: Mask) -> Frame:
    """The frame in grey with what the other frame does not show in orange."""
    grey = np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    shown = (0.55 * grey + 100).astype(np.uint8)
    shown[~visible] = (0.35 * grey[~visible] + 0.65 * np.array([230, 159, 0])).astype(np.uint8)
    return shown


def error_picture(frame: Frame, previous: Frame, backward: Flow, visible: Mask) -> Frame:
    """Where a frame differs from the one before along the motion: 0 dark blue to `ERROR_RANGE` yellow, hidden grey.

    The scale (cividis) reads the same with any colour vision.
    """
    error = np.sqrt(((frame.astype(np.float64) - along(previous, backward)) ** 2).mean(axis=2))
    scaled = np.clip(error / ERROR_RANGE * 255, 0, 255).astype(np.uint8)
    coloured = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    coloured[~visible] = (150, 150, 150)
    return np.asarray(coloured, np.uint8)


def busiest_row(frames: Sequence[Frame]) -> int:
    """The row in which a few frames differ most: where a slice through time shows something."""
    changes = np.std([frame.astype(np.float32).mean(axis=2) for frame in frames], axis=0).mean(axis=1)
    height = len(changes)
    soft = cv2.blur(changes.reshape(-1, 1), (1, max(3, height // 24)))[:, 0]
    border = height // 10
    return int(np.argmax(soft[border : height - border]) + border) if height > 20 else height // 2


def slice_picture(rows: Sequence[NDArray[np.uint8]], least_height: int = 160) -> Frame:
    """An x–t slice: the same row of each frame, time downwards, each repeated until the picture is high enough."""
    picture = np.stack(rows)
    return np.repeat(picture, max(1, -(-least_height // len(rows))), axis=0)


def fit(frame: Frame, width: int) -> Frame:
    """Shrunk to the given width; smaller pictures stay as they are."""
    height, old = frame.shape[:2]
    if old <= width:
        return frame
    size = (width, max(1, round(height * width / old)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def embed(picture: Frame, quality: int = 82) -> str:
    """The picture as a data URI (WebP)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
