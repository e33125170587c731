"""A clip given as a folder of pictures, in the natural order of the numbers in their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from rerender.errors import UserError
from rerender.pictures import UNREADABLE, AnimatedError, load_rgb

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
        return load_rgb(path)
    except AnimatedError as error:
        raise UserError(
            f"The picture {path} is animated, which is read from GIF and video files only.",
            hint="Convert it to mp4 or gif.",
        ) from error
    except UNREADABLE as error:
        raise UserError(
            f"The picture {path} can't be read: {error}.", hint="Replace or remove it, then run again."
        ) from error


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


def missing_numbers(pictures: Sequence[Path]) -> str:
    """The numbers that are left out where the names otherwise count evenly: "4-6, 9". "" where there are none.

    Args:
        pictures: in natural order; their number is the last one in their names.
    """
    found = [re.findall(r"\d+", path.stem) for path in pictures]
    numbers = [int(each[-1]) for each in found if each]
    steps = Counter(after - before for before, after in pairwise(numbers))
    if len(numbers) < len(pictures) or not steps or min(steps) < 1:
        return ""
    step = steps.most_common(1)[0][0]
    gaps = [(before + step, after - step) for before, after in pairwise(numbers) if after - before > step]
    return ", ".join(str(first) if first >= last else f"{first}-{last}" for first, last in gaps)
