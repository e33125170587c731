"""The recursions of `spread`, in numba: one thread of its own, without the GIL, the same bits as in numpy."""
# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np

from rerender.compiled import jit


@jit
def change(picture, y, x, other_y, other_x):
    """Sum over the channels of the change from one pixel to another."""
    total = np.int64(0)
    for c in range(picture.shape[2]):
        total += abs(np.int64(picture[y, x, c]) - np.int64(picture[other_y, other_x, c]))
    return total


@jit
def across(values, picture, shares):
    """Along the rows, there and back, in place: (H, W, C) float32, (H, W, 3) uint8, share by change (766,) float32."""
    height, width, channels = values.shape
    for y in range(height):
        for x in range(1, width):
            share = shares[change(picture, y, x, y, x - 1)]
            for c in range(channels):
                values[y, x, c] += share * (values[y, x - 1, c] - values[y, x, c])
        for x in range(width - 2, -1, -1):
            share = shares[change(picture, y, x, y, x + 1)]
            for c in range(channels):
                values[y, x, c] += share * (values[y, x + 1, c] - values[y, x, c])


@jit
def down(values, picture, shares):
    """Along the columns, likewise."""
    height, width, channels = values.shape
    for y in range(1, height):
        for x in range(width):
            share = shares[change(picture, y, x, y - 1, x)]
            for c in range(channels):
                values[y, x, c] += share * (values[y - 1, x, c] - values[y, x, c])
    for y in range(height - 2, -1, -1):
        for x in range(width):
            share = shares[change(picture, y, x, y + 1, x)]
            for c in range(channels):
                values[y, x, c] += share * (values[y + 1, x, c] - values[y, x, c])
