"""Pictures inside a page: small JPEGs as data addresses, so that no file has to be served."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def data_uri(picture: np.ndarray, *, quality: int = 88) -> str:
    """A uint8 RGB picture (H, W, 3) as a JPEG in a data address."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def png_bytes(picture: np.ndarray) -> bytes:
    """A uint8 RGB picture (H, W, 3) as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, format="PNG")
    return stream.getvalue()
