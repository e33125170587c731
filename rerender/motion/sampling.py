"""Bilinear sampling along a flow, in numba: the bits of `warp`'s numpy."""
# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np

from rerender.compiled import jit

_FAR = np.float32(2**30)  # further away than any picture is large, and a whole number that fits


@jit
def place(displacement, at, size):
    """The two pixels (of `size`) around a displaced one on one axis, the edge's outside, and how far to the second."""
    whole = np.floor(displacement)
    first = at + np.int64(min(max(whole, -_FAR), _FAR))
    return min(max(first, 0), size - 1), min(max(first + 1, 0), size - 1), displacement - whole


@jit
def bilinear(image, flow, made):
    """Write image(p + flow(p)) into `made`: (H, W, C), (h, w, 2) and (h, w, C), all float32."""
    rows, columns, channels = image.shape
    for y in range(flow.shape[0]):
        for x in range(flow.shape[1]):
            left, right, across = place(flow[y, x, 0], x, columns)
            upper, lower, down = place(flow[y, x, 1], y, rows)
            for c in range(channels):
                a, b = image[upper, left, c], image[lower, left, c]
                top = a + across * (image[upper, right, c] - a)
                bottom = b + across * (image[lower, right, c] - b)
                made[y, x, c] = top + down * (bottom - top)
