"""The operations on the host: numpy, OpenCV, SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import scipy.fft

from rerender.arrays.operations import Array, Kernel, Operations, WarpMode
from rerender.motion.warp import warp

_KERNELS: dict[Kernel, int] = {
    "lanczos": cv2.INTER_LANCZOS4,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
}


class _Host:
    """`Operations` on numpy arrays."""

    float32, int16, int32, uint8, bool = np.float32, np.int16, np.int32, np.uint8, np.bool_
    where: Any = staticmethod(np.where)
    clip, concat, stack = staticmethod(np.clip), staticmethod(np.concatenate), staticmethod(np.stack)
    contiguous, zeros = staticmethod(np.ascontiguousarray), staticmethod(np.zeros)
    minimum, maximum, rint, abs, sqrt, hypot = np.minimum, np.maximum, np.rint, np.abs, np.sqrt, np.hypot

    def here(self, array: Array) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()

    def fetch(self, array: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: array

    def constant(self, make: Callable[..., np.ndarray], *arguments: float | str) -> np.ndarray:
        return make(*arguments)

    def astype(self, array: np.ndarray, dtype: Any) -> np.ndarray:
        return array.astype(dtype, copy=False)

    def total(self, array: np.ndarray) -> np.ndarray:
        total = np.zeros(array.shape[1:], array.dtype)
        for part in array:  # numpy's own sum takes pairs where it can, so that its rounding depends on the shape
            total += part
        return total

    def pad(self, array: np.ndarray, before: int, after: int) -> np.ndarray:
        return np.pad(array, ((before, after), (before, after), *[(0, 0)] * (array.ndim - 2)), mode="edge")

    def pad_zero(self, array: np.ndarray, width: int) -> np.ndarray:
        return np.pad(array, ((width, width), (width, width), *[(0, 0)] * (array.ndim - 2)))

    def perhaps_any(self, mask: np.ndarray) -> Any:
        return mask.any()

    def median_of(self, values: np.ndarray, mask: np.ndarray, most: float) -> float:
        return min(float(np.median(values[mask])), most) if mask.any() else 0.0

    def blur(self, image: np.ndarray, side: int) -> np.ndarray:
        return cv2.blur(image, (side, side))

    def gaussian(self, image: np.ndarray, sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), sigma)

    def laplacian(self, image: np.ndarray) -> np.ndarray:
        return cv2.Laplacian(image, cv2.CV_32F)

    def dilate(self, image: np.ndarray, side: int) -> np.ndarray:
        around = np.ones((side, side), np.uint8)
        if image.dtype == np.bool_:
            return cv2.dilate(image.view(np.uint8), around).view(np.bool_)
        return cv2.dilate(image, around)

    def erode(self, image: np.ndarray, side: int) -> np.ndarray:
        return cv2.erode(image, np.ones((side, side), np.uint8))

    def sample(self, image: np.ndarray, places: np.ndarray, kernel: Kernel) -> np.ndarray:
        image = image if kernel == "nearest" else image.astype(np.float32)
        places = places.astype(np.float32)
        return cv2.remap(image, places, np.empty(0), _KERNELS[kernel], borderMode=cv2.BORDER_REPLICATE)

    def warp(self, image: np.ndarray, flow: np.ndarray, mode: WarpMode = "bilinear") -> np.ndarray:
        return warp(image, flow, mode=mode)

    def to_lab(self, picture: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(picture.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)

    def from_lab(self, lab: np.ndarray) -> np.ndarray:
        rgb = cv2.cvtColor(np.ascontiguousarray(lab, np.float32), cv2.COLOR_Lab2RGB)
        return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)

    def dct(self, array: np.ndarray) -> np.ndarray:
        return scipy.fft.dctn(array, axes=(0, 1), norm="ortho")

    def inverse_dct(self, array: np.ndarray) -> np.ndarray:
        return scipy.fft.idctn(array, axes=(0, 1), norm="ortho")


HOST: Operations = _Host()
