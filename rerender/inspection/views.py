"""Single views: flow with its key, masks laid over a picture, holes, differences. All uint8 RGB (H, W, 3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rerender.motion.flow import FloatArray, UInt8Array
from rerender.motion.pictures import flow_picture, wheel_picture

HIDDEN = (213, 94, 0)
"""Vermillion: pixels that a reference does not show. It and the blue below are told apart with any colour vision."""
LATENT = (0, 114, 178)
"""Blue: latent cells that count as hidden."""
DIFFERENCE_RANGE = 64.0
"""Levels that the brightest colour of a difference stands for."""
_CHECKER = (96, 160)
_FONT_SIZE = 12


def flow_view(flow: FloatArray) -> UInt8Array:
    """Flow (H, W, 2) in the colours of Middlebury's wheel, with the wheel and its radius in pixels in a corner."""
    greatest = max(1.0, float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), 99)))
    picture = flow_picture(flow, greatest)
    side = min(96, min(picture.shape[:2]) // 4)
    if side < 12:  # nothing could be told from it
        return picture
    picture[:side, :side] = wheel_picture(side)
    return _labelled(picture, f"{greatest:.1f} px", side)


def hidden_view(picture: UInt8Array, occlusion: FloatArray) -> UInt8Array:
    """`picture` in grey, in vermillion where `occlusion` (H, W) is 1."""
    return _tint(_grey(picture), occlusion, HIDDEN)


def latent_view(picture: UInt8Array, mask: FloatArray) -> UInt8Array:
    """`picture` in grey, in blue where the latent visibility `mask` (h, w) is 0, one cell for 8×8 pixels."""
    height, width = picture.shape[:2]
    cells = np.repeat(np.repeat(1.0 - mask, 8, axis=0), 8, axis=1)[:height, :width]
    return _tint(_grey(picture), cells, LATENT)


def mask_view(picture: UInt8Array, mask: FloatArray) -> UInt8Array:
    """`picture` in dark grey where `mask` (H, W) is 0."""
    return _mix(picture, (_grey(picture) // 3).astype(np.uint8), 1.0 - mask)


def with_holes(picture: UInt8Array, occlusion: FloatArray) -> UInt8Array:
    """`picture` with a checkerboard where `occlusion` (H, W) is 1."""
    return _mix(picture, checkerboard(picture), occlusion)


def checkerboard(like: UInt8Array) -> UInt8Array:
    """Grey squares of 8 pixels that stand for "nothing here", of the size of `like` (H, W, 3)."""
    rows, columns = (np.arange(length) // 8 for length in like.shape[:2])
    squares = np.array(_CHECKER, np.uint8)[(rows[:, None] + columns) % 2]
    return np.repeat(squares[..., None], 3, axis=2)


def difference_view(picture: UInt8Array, other: UInt8Array) -> UInt8Array:
    """Mean absolute difference of the channels: 0 dark blue to `DIFFERENCE_RANGE` yellow (cividis)."""
    difference = np.abs(picture.astype(np.float32) - other).mean(axis=2)
    scaled = np.clip(difference / DIFFERENCE_RANGE * 255, 0, 255).astype(np.uint8)
    coloured = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    return np.asarray(coloured, np.uint8)


def _grey(picture: UInt8Array) -> UInt8Array:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _tint(picture: UInt8Array, share: FloatArray, colour: tuple[int, int, int]) -> UInt8Array:
    """Mixed with `colour`, by at most three quarters so that the picture still shows."""
    return _mix(picture, np.broadcast_to(np.array(colour, np.uint8), picture.shape), 0.75 * share)


def _mix(picture: UInt8Array, other: NDArray[np.uint8], share: FloatArray) -> UInt8Array:
    weight = share[..., None].astype(np.float32)
    return np.rint((1.0 - weight) * picture + weight * other).astype(np.uint8)


def _labelled(picture: UInt8Array, text: str, below: int) -> UInt8Array:
    """`text` on white in the left corner, under the first `below` rows."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    try:
        font = ImageFont.load_default(size=_FONT_SIZE)
    except TypeError:  # Pillow before 10.1 has one size only
        font = ImageFont.load_default()
    _, top, right, bottom = draw.textbbox((2, below + 1), text, font=font)
    draw.rectangle((0, top - 2, right + 2, bottom + 2), fill=(255, 255, 255))
    draw.text((2, below + 1), text, fill=(0, 0, 0), font=font)
    return np.array(image)
