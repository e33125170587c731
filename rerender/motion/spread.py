"""Values spread from where they are known to where they are not, along what looks alike.

The recursive form of the domain transform (Gastal, Oliveira, *Domain Transform for Edge-Aware Image and Video
Processing*, SIGGRAPH 2011, section 4.2): a filter along rows and columns whose reach is used up by changes of colour.
It reaches across any flat area, which no window does, and stops at outlines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from rerender.motion.flow import FloatArray, UInt8Array

_REACH = 60.0  # pixels of flat area at which the weight of a value is down to about 1/4
_TOLERANCE = 30.0  # sum over the channels of the change in 8-bit levels that costs as much as the whole reach
_ROUNDS = 2
_DISTANCES = 1 + np.arange(3 * 255 + 1, dtype=np.float32) * np.float32(_REACH / _TOLERANCE)  # by change of colour

Recursion = Callable[[FloatArray, UInt8Array, FloatArray], None]


def spread(values: FloatArray, weight: FloatArray, picture: UInt8Array) -> FloatArray:
    """The mean of `values`, (H, W, C), over what looks alike around each pixel.

    weight: (H, W), above 0, how far each value counts. picture: uint8 RGB (H, W, 3), whose outlines nothing crosses.
    """
    lifted = np.dstack([values * weight[..., None], weight]).astype(np.float32)
    across, down = _recursions()
    picture = np.ascontiguousarray(picture)
    for number in range(_ROUNDS):
        reach = _REACH * np.sqrt(3) * 2 ** (_ROUNDS - 1 - number) / np.sqrt(4**_ROUNDS - 1)
        shares = np.exp(_DISTANCES * np.float32(-np.sqrt(2) / reach))
        across(lifted, picture, shares)
        down(lifted, picture, shares)
    return np.asarray(lifted[..., :-1] / np.maximum(lifted[..., -1:], np.float32(1e-12)), np.float32)


@functools.cache
def _recursions() -> tuple[Recursion, Recursion]:
    """Along rows and along columns: numba's, or numpy's, which takes longer and holds the GIL."""
    try:
        from rerender.motion.recursion import across, down
    except ImportError:
        return _across, _down
    return across, down


def _across(values: FloatArray, picture: UInt8Array, shares: FloatArray) -> None:
    turned = np.ascontiguousarray(values.transpose(1, 0, 2))
    _down(turned, picture.transpose(1, 0, 2), shares)
    values[:] = turned.transpose(1, 0, 2)


def _down(values: FloatArray, picture: UInt8Array, shares: FloatArray) -> None:
    """J[n] += a^d (J[n-1] - J[n]) from the first row to the last and back, in place."""
    share = shares[np.abs(np.diff(picture.astype(np.int16), axis=0)).sum(axis=2)][..., None]
    for n in range(1, len(values)):
        values[n] += share[n - 1] * (values[n - 1] - values[n])
    for n in range(len(values) - 2, -1, -1):
        values[n] += share[n] * (values[n + 1] - values[n])
