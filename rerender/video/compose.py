"""Pictures that put things beside each other: clips in one frame, and a labelled contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rerender.video.decode import resize_exactly

GAP = 8
MARGIN = 16
LABEL_HEIGHT = 26
FONT_SIZE = 14
BACKGROUND = (250, 250, 250)
INK = (40, 40, 40)


def side_by_side(*frames: np.ndarray) -> np.ndarray:
    """Frames beside each other at the height of the first one.

    Args:
        frames: uint8 RGB (H, W, 3) each; at least one.

    Returns:
        (H of the first, sum of the widths, 3), uint8.
    """
    height = frames[0].shape[0]
    return np.concatenate([_at_height(frame, height) for frame in frames], axis=1)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    cell_width: int = 304,
) -> np.ndarray:
    """A sheet of pictures in rows and columns, for instance key frames under their sources.

    Args:
        rows: uint8 RGB pictures of one aspect ratio; every row has a picture for each column.
        row_labels: a line above each row.
        column_labels: a line above each column, repeated at the first row only.
        cell_width: width of a picture in pixels.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        ValueError: there is no picture, or the labels do not match the pictures.
    """
    if not rows or not rows[0] or len(rows) != len(row_labels):
        raise ValueError(f"{len(rows)} rows with {len(row_labels)} labels")
    if any(len(row) != len(column_labels) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} pictures with {len(column_labels)} labels")
    height, width = rows[0][0].shape[:2]
    cell_height = max(1, round(height * cell_width / width))
    step_x, step_y = cell_width + GAP, cell_height + LABEL_HEIGHT
    top = MARGIN + LABEL_HEIGHT
    sheet_width = 2 * MARGIN + len(column_labels) * step_x - GAP
    sheet = Image.new("RGB", (sheet_width, top + len(rows) * step_y + MARGIN), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), _font()
    for column, label in enumerate(column_labels):
        draw.text((MARGIN + column * step_x, MARGIN), label, fill=INK, font=font)
    for number, (row, label) in enumerate(zip(rows, row_labels, strict=True)):
        y = top + number * step_y
        draw.text((MARGIN, y + 4), label, fill=INK, font=font)
        for column, picture in enumerate(row):
            scaled = resize_exactly(np.ascontiguousarray(picture), cell_width, cell_height)
            sheet.paste(Image.fromarray(scaled), (MARGIN + column * step_x, y + LABEL_HEIGHT))
    return np.array(sheet)


def _at_height(frame: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return resize_exactly(np.ascontiguousarray(frame), width, height)


def _font() -> Any:
    """Pillow's own font; before Pillow 10.1 it has one size only."""
    try:
        return ImageFont.load_default(size=FONT_SIZE)
    except TypeError:
        return ImageFont.load_default()
