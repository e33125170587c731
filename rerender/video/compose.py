"""Pictures that put things beside each other: two clips in one frame, and a contact sheet of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rerender.video.decode import resize_exactly

GAP = 8
MARGIN = 16
LABEL_HEIGHT = 24
FONT_SIZE = 14
BACKGROUND = (250, 250, 250)
INK = (40, 40, 40)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two uint8 RGB frames beside each other, the right one resized to the height of the left one.

    Args:
        left: (H, W, 3).
        right: (H2, W2, 3).

    Returns:
        (H, W + W2·H/H2, 3), uint8.
    """
    height = left.shape[0]
    width = max(1, round(right.shape[1] * height / right.shape[0]))
    return np.concatenate([left, resize_exactly(np.ascontiguousarray(right), width, height)], axis=1)


def contact_sheet(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: Sequence[str],
    *,
    cell_width: int = 480,
    columns: int | None = None,
) -> Image.Image:
    """A sheet of labelled pairs, for instance each key frame's source and its rendering.

    Args:
        pairs: (left, right) uint8 RGB pictures; each pair is scaled to the cell's width.
        labels: one line above each pair.
        cell_width: width of a pair in pixels.
        columns: pairs in a row; by default as many as make the sheet about as wide as it is high.

    Raises:
        ValueError: there is no pair, or not one label for each.
    """
    if not pairs or len(pairs) != len(labels):
        raise ValueError(f"{len(pairs)} pairs with {len(labels)} labels")
    cells = [_cell(left, right, cell_width) for left, right in pairs]
    cell_height = max(cell.height for cell in cells) + LABEL_HEIGHT
    columns = columns or _square_columns(len(cells), cell_width, cell_height)
    rows = -(-len(cells) // columns)
    size = (
        2 * MARGIN + columns * cell_width + (columns - 1) * MARGIN,
        2 * MARGIN + rows * cell_height + (rows - 1) * MARGIN,
    )
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for number, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        x = MARGIN + number % columns * (cell_width + MARGIN)
        y = MARGIN + number // columns * (cell_height + MARGIN)
        draw.text((x, y + (LABEL_HEIGHT - FONT_SIZE) // 2), label, fill=INK, font=font)
        sheet.paste(cell, (x, y + LABEL_HEIGHT))
    return sheet


def _cell(left: np.ndarray, right: np.ndarray, width: int) -> Image.Image:
    """A pair with a gap between the pictures, `width` pixels wide."""
    aspects = [picture.shape[1] / picture.shape[0] for picture in (left, right)]
    height = max(1, round((width - GAP) / sum(aspects)))
    left_width = max(1, round(height * aspects[0]))
    cell = Image.new("RGB", (width, height), BACKGROUND)
    cell.paste(_scaled(left, left_width, height), (0, 0))
    cell.paste(_scaled(right, max(1, width - GAP - left_width), height), (left_width + GAP, 0))
    return cell


def _scaled(frame: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray(resize_exactly(np.ascontiguousarray(frame), width, height))


def _font() -> Any:
    """Pillow's own font; before Pillow 10.1 it has one size only."""
    try:
        return ImageFont.load_default(size=FONT_SIZE)
    except TypeError:
        return ImageFont.load_default()


def _square_columns(count: int, cell_width: int, cell_height: int) -> int:
    """Number of columns that makes a sheet of `count` cells about square."""
    return max(1, min(count, ceil((count * cell_height / cell_width) ** 0.5)))
