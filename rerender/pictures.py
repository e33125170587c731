"""A picture file of any kind as RGB, the same everywhere: turned upright, transparency on white, 16 bits scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, too large, or no pictures."""


class AnimatedError(ValueError):
    """The file holds more than one picture."""


def load_rgb(path: Path) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3): turned as its EXIF data says, transparency laid on white.

    Raises:
        AnimatedError: it holds several pictures.
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: it cannot be read.
    """
    with Image.open(path) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise AnimatedError("it is animated")
        return _to_rgb(ImageOps.exif_transpose(picture) or picture)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return flatten(np.asarray(picture.convert("RGBA")))
    return np.array(picture.convert("RGB"))  # a copy that may be written to


def flatten(rgba: np.ndarray) -> np.ndarray:
    """Lay a uint8 RGBA picture (H, W, 4) on white, giving RGB (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blended = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
