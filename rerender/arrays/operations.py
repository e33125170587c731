"""What each operation does, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

Array = Any
"""A numpy array or a torch tensor. Pictures are (H, W) or (H, W, C), flows and places (H, W, 2) in (x, y) order."""

Kernel = Literal["lanczos", "cubic", "nearest"]
WarpMode = Literal["bilinear", "nearest"]


class Operations(Protocol):
    """Operations on arrays of one place. Those that numpy has are numpy's, the others are OpenCV's and SciPy's.

    Attributes:
        float32, int16, int32, uint8, bool: types of elements.
    """

    float32: Any
    int16: Any
    int32: Any
    uint8: Any
    bool: Any

    def here(self, array: Array) -> Array:
        """Bring an array to where these operations work; to a device without waiting for it."""
        ...

    def fetch(self, array: Array) -> Callable[[], np.ndarray]:
        """Begin to bring an array to the host. What is returned waits until it is there."""
        ...

    def constant(self, make: Callable[..., np.ndarray], *arguments: float | str) -> Array:
        """Return make(*arguments), brought here; a device keeps it for the next call. `make` is a module's function."""
        ...

    def astype(self, array: Array, dtype: Any) -> Array:
        """Convert; from real to whole numbers by truncation."""
        ...

    def zeros(self, shape: Sequence[int], dtype: Any) -> Array:
        """Return a new array of zeros."""
        ...

    def where(self, condition: Array, yes: Array | float, no: Array | float) -> Array:
        """Choose by a bool array."""
        ...

    def clip(self, array: Array, low: Array | float | None, high: Array | float | None) -> Array:
        """Limit to low … high, both arrays or both numbers; None: no limit."""
        ...

    def minimum(self, a: Array, b: Array) -> Array:
        """Return the smaller of each pair."""
        ...

    def maximum(self, a: Array, b: Array) -> Array:
        """Return the larger of each pair."""
        ...

    def rint(self, array: Array) -> Array:
        """Round, halves to even."""
        ...

    def abs(self, array: Array) -> Array:
        """Return absolute values."""
        ...

    def sqrt(self, array: Array) -> Array:
        """Return square roots."""
        ...

    def hypot(self, a: Array, b: Array) -> Array:
        """Return sqrt(a² + b²)."""
        ...

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join along an axis."""
        ...

    def stack(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join along a new axis."""
        ...

    def total(self, array: Array) -> Array:
        """Sum along the first axis; on the host, one after the other."""
        ...

    def contiguous(self, array: Array) -> Array:
        """Lay out row by row."""
        ...

    def pad(self, array: Array, before: int, after: int) -> Array:
        """Repeat the edges of the first two axes."""
        ...

    def pad_zero(self, array: Array, width: int) -> Array:
        """Put zeros around, on the first two axes."""
        ...

    def perhaps_any(self, mask: Array) -> bool:
        """Whether anything is set; True where to find out would mean to wait for a device."""
        ...

    def median_of(self, values: Array, mask: Array, most: float) -> Array | float:
        """Median of the values where a bool mask is set, at most `most`; 0 where it is set nowhere."""
        ...

    def blur(self, image: Array, side: int) -> Array:
        """Mean of side × side pixels, float32; beyond the edges mirrored without the edge pixel."""
        ...

    def gaussian(self, image: Array, sigma: float) -> Array:
        """Gaussian blur of a float32 picture, cut off at 4 sigma; edges as in `blur`."""
        ...

    def laplacian(self, image: Array) -> Array:
        """Sum of the four neighbours minus four times the pixel, float32; edges as in `blur`."""
        ...

    def dilate(self, image: Array, side: int) -> Array:
        """Largest value of side × side pixels inside the picture; of a bool mask, whether any is set."""
        ...

    def erode(self, image: Array, side: int) -> Array:
        """Smallest value of side × side pixels inside the picture."""
        ...

    def sample(self, image: Array, places: Array, kernel: Kernel) -> Array:
        """Take a picture at real places, to 1/32 pixel: Lanczos over 8×8, cubic (a = -3/4), or nearest.

        Halves go to even. Edges repeat. Float32 for the first two, the picture's type for the last.
        """
        ...

    def warp(self, image: Array, flow: Array, mode: WarpMode = "bilinear") -> Array:
        """Return image(p + flow(p)); see `motion.warp.warp`."""
        ...

    def to_lab(self, picture: Array) -> Array:
        """CIE Lab (D65) of a uint8 sRGB picture, float32."""
        ...

    def from_lab(self, lab: Array) -> Array:
        """Return the uint8 sRGB picture of Lab colours, clipped to what sRGB has."""
        ...

    def dct(self, array: Array) -> Array:
        """Orthonormal DCT-II along the first two axes."""
        ...

    def inverse_dct(self, array: Array) -> Array:
        """Undo `dct`."""
        ...
