"""From the source's frames to the size that is rendered: crop, then one good resize to multiples of 8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rerender.errors import UserError

MULTIPLE = 8
"""Latents are 8 times smaller than pictures: both sides are multiples of this."""


@dataclass(frozen=True)
class Geometry:
    """Crop box (left, top, right, bottom) in source pixels, right and bottom excluded, and the size after it."""

    box: tuple[int, int, int, int]
    width: int
    height: int

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Crop and resize a uint8 RGB frame (H, W, 3) to (height, width, 3) with Lanczos, as the webui does.

        The frame itself comes back where nothing is to be done.
        """
        left, top, right, bottom = self.box
        frame = frame[top:bottom, left:right]
        if frame.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(frame)
        picture = Image.fromarray(np.ascontiguousarray(frame))
        return np.array(picture.resize((self.width, self.height), Image.Resampling.LANCZOS))


def plan_geometry(
    width: int, height: int, crop: tuple[int, int, int, int] = (0, 0, 0, 0), short_side: int = 512
) -> Geometry:
    """Choose the working size of a clip.

    The short side becomes `short_side` rounded to a multiple of 8 (0 keeps the source's size), the long side follows
    the aspect ratio and is rounded to a multiple of 8: neither side is further than 4 pixels from the exact aspect
    of the rounded short side.

    Args:
        width: source width in pixels, as displayed.
        height: source height in pixels, as displayed.
        crop: pixels cut off at the left, top, right and bottom.
        short_side: in pixels, ≥ 0.

    Raises:
        UserError: the crop leaves nothing, or a value is negative.
    """
    left, top, right, bottom = crop
    kept_width, kept_height = width - left - right, height - top - bottom
    if min(crop) < 0 or kept_width < 1 or kept_height < 1:
        raise UserError(
            f"The crop (left {left}, top {top}, right {right}, bottom {bottom}) leaves nothing of the frame.",
            hint=f"The frames are {width}x{height} pixels; the values are pixels cut off at each side, 0 or more.",
        )
    if short_side < 0:
        raise UserError(f"The short side {short_side} is negative.", hint="0 keeps the source's size.")
    short = min(kept_width, kept_height)
    target = round_to_multiple(short_side or short)
    scale = target / short
    if short_side == 0:
        out = round_to_multiple(kept_width), round_to_multiple(kept_height)
    elif kept_width <= kept_height:
        out = target, round_to_multiple(kept_height * scale)
    else:
        out = round_to_multiple(kept_width * scale), target
    return Geometry(box=(left, top, width - right, height - bottom), width=out[0], height=out[1])


def round_to_multiple(length: float) -> int:
    """The nearest multiple of 8 (halves upwards), at least 8."""
    return max(MULTIPLE, int(length / MULTIPLE + 0.5) * MULTIPLE)
