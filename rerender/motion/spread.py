"""Values spread from where they are known to where they are not, along what looks alike.

The recursive form of the domain transform (Gastal, Oliveira, *Domain Transform for Edge-Aware Image and Video
Processing*, SIGGRAPH 2011, section 4.2): a filter along rows and columns whose reach is used up by changes of colour.
It reaches across any flat area, which no window does, and stops at outlines.
"""

from __future__ import annotations

import numpy as np

from rerender.motion.flow import FloatArray, UInt8Array

_REACH = 60.0  # pixels of flat area at which the weight of a value is down to about 1/4
_TOLERANCE = 30.0  # sum over the channels of the change in 8-bit levels that costs as much as the whole reach
_ROUNDS = 2


def spread(values: FloatArray, weight: FloatArray, picture: UInt8Array) -> FloatArray:
    """The mean of `values`, (H, W, C), over what looks alike around each pixel.

    weight: (H, W), above 0, how far each value counts. picture: uint8 RGB (H, W, 3), whose outlines nothing crosses.
    """
    lifted = np.dstack([values * weight[..., None], weight]).astype(np.float32)
    colours = picture.astype(np.float32)
    steps = [1 + np.abs(np.diff(colours, axis=axis)).sum(axis=2) * np.float32(_REACH / _TOLERANCE) for axis in (0, 1)]
    for number in range(_ROUNDS):
        reach = _REACH * np.sqrt(3) * 2 ** (_ROUNDS - 1 - number) / np.sqrt(4**_ROUNDS - 1)
        down, across = (np.exp(each * np.float32(-np.sqrt(2) / reach))[..., None] for each in steps)
        turned = np.ascontiguousarray(lifted.transpose(1, 0, 2))
        _both_ways(turned, np.ascontiguousarray(across.transpose(1, 0, 2)))
        lifted = np.ascontiguousarray(turned.transpose(1, 0, 2))
        _both_ways(lifted, down)
    return np.asarray(lifted[..., :-1] / np.maximum(lifted[..., -1:], np.float32(1e-12)), np.float32)


def _both_ways(rows: FloatArray, share: FloatArray) -> None:
    """J[n] += a^d (J[n-1] - J[n]) from the first row to the last and back, in place; share (rows - 1, W, 1)."""
    for n in range(1, len(rows)):
        rows[n] += share[n - 1] * (rows[n - 1] - rows[n])
    for n in range(len(rows) - 2, -1, -1):
        rows[n] += share[n] * (rows[n + 1] - rows[n])
