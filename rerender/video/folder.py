"""A clip given as a folder of pictures, in the natural order of the numbers in their names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rerender.errors import UserError
from rerender.video.decode import flatten

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that orders frame2 before frame10; digits compare as numbers, letters without case."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def list_pictures(folder: Path) -> list[Path]:
    """All pictures directly in a folder in natural order; hidden files are left out.

    Raises:
        UserError: there is none.
    """
    files = (path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    pictures = sorted((path for path in files if not path.name.startswith(".")), key=natural_key)
    if not pictures:
        raise UserError(
            f"The folder {folder.resolve()} has no pictures.",
            hint=f"It needs one picture a frame ({', '.join(sorted(PICTURE_SUFFIXES))}), numbered in their names.",
        )
    return pictures


def read_picture(path: Path) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3): turned as its EXIF data says, transparency laid on white.

    Raises:
        UserError: the file can't be read, or is animated.
    """
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise UserError(
                    f"The picture {path} is animated, which is read from GIF and video files only.",
                    hint="Convert it to mp4 or gif.",
                )
            return _to_rgb(ImageOps.exif_transpose(picture) or picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"The picture {path} can't be read: {error}.", hint="Replace or remove it, then run again."
        ) from error


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return flatten(np.asarray(picture.convert("RGBA")))
    return np.array(picture.convert("RGB"))  # a copy that may be written to


def check_pictures(pictures: list[Path]) -> tuple[int, int]:
    """Read every picture once; gives the (width, height) that all of them have.

    Raises:
        UserError: one can't be read, or two have different sizes.
    """
    height, width = read_picture(pictures[0]).shape[:2]
    for path in pictures[1:]:
        other_height, other_width = read_picture(path).shape[:2]
        if (other_width, other_height) != (width, height):
            raise UserError(
                f"The frames differ in size: {pictures[0]} is {width}x{height}, "
                f"{path} is {other_width}x{other_height}.",
                hint="Bring all frames to one size, or take the odd ones out of the folder.",
            )
    return width, height
