"""The operations on a device: torch, with nothing that waits for it.

Nothing here asks a device for a value: no conversion to a Python number, no index by a bool mask. `release` frees what
is kept from call to call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from rerender.arrays import cosine, lab
from rerender.arrays.operations import Array, Kernel, WarpMode
from rerender.arrays.sampling import sample
from rerender.motion.warp import warp_latent

Tensor = torch.Tensor


class _Device:
    """`Operations` on the tensors of one device."""

    float32, int16, int32, uint8, bool = torch.float32, torch.int16, torch.int32, torch.uint8, torch.bool
    where: Any = staticmethod(torch.where)
    clip: Any = staticmethod(torch.clamp)
    concat: Any = staticmethod(torch.cat)
    stack: Any = staticmethod(torch.stack)
    minimum, maximum, hypot = staticmethod(torch.minimum), staticmethod(torch.maximum), staticmethod(torch.hypot)
    rint, abs, sqrt = staticmethod(torch.round), staticmethod(torch.abs), staticmethod(torch.sqrt)

    def __init__(self, home: torch.device) -> None:
        self.home = home
        self._constants: dict[tuple[Any, ...], Tensor] = {}

    def here(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
        if tensor.device == self.home:
            return tensor
        if self.home.type == "cuda" and tensor.numel() > 0:
            tensor = tensor.pin_memory()  # so that the copy is only queued; torch keeps the memory until it is done
        return tensor.to(self.home, non_blocking=True)

    def fetch(self, array: Tensor) -> Callable[[], np.ndarray]:
        if self.home.type != "cuda":
            return lambda: array.cpu().numpy()
        landed = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
        landed.copy_(array, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return lambda: _landed(landed, done)

    def constant(self, make: Callable[..., np.ndarray], *arguments: float | str) -> Tensor:
        key = (make, *arguments)
        if key not in self._constants:
            self._constants[key] = self.here(make(*arguments))
        return self._constants[key]

    def release(self) -> None:
        self._constants.clear()

    def astype(self, array: Tensor, dtype: torch.dtype) -> Tensor:
        return array.to(dtype)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.zeros(tuple(shape), dtype=dtype, device=self.home)

    def total(self, array: Tensor) -> Tensor:
        return array.sum(0)

    def contiguous(self, array: Tensor) -> Tensor:
        return array.contiguous()

    def pad(self, array: Tensor, before: int, after: int) -> Tensor:
        rows, columns = (self.constant(_repeated, size, before, after) for size in array.shape[:2])
        return array.index_select(0, rows).index_select(1, columns)

    def pad_zero(self, array: Tensor, width: int) -> Tensor:
        return F.pad(array, [0, 0] * (array.ndim - 2) + [width] * 4)

    def perhaps_any(self, mask: Tensor) -> Any:
        return True

    def median_of(self, values: Tensor, mask: Tensor, most: float) -> Tensor:
        count = mask.sum()
        ordered = torch.where(mask, values, float("inf")).flatten().sort().values
        middle = torch.stack([(count - 1).clamp(min=0) // 2, (count // 2).clamp(max=values.numel() - 1)])
        return torch.where(count > 0, ordered.index_select(0, middle).mean(), 0.0).clamp(max=most)

    def blur(self, image: Tensor, side: int) -> Tensor:
        mirrored = self._mirror(image.float(), side // 2)
        return _as_planes(mirrored, lambda planes: F.avg_pool2d(planes, side, 1))

    def gaussian(self, image: Tensor, sigma: float) -> Tensor:
        weights = _gaussian_weights(sigma)
        mirrored = self._mirror(image, len(weights) // 2)
        return _weighted(_weighted(mirrored, weights, 0), weights, 1)

    def laplacian(self, image: Tensor) -> Tensor:
        wide = self._mirror(image.float(), 1)
        return wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * wide[1:-1, 1:-1]

    def dilate(self, image: Tensor, side: int) -> Tensor:
        return _as_planes(image.float(), lambda planes: F.max_pool2d(planes, side, 1, side // 2)).to(image.dtype)

    def erode(self, image: Tensor, side: int) -> Tensor:
        return _as_planes(image.float(), lambda planes: -F.max_pool2d(-planes, side, 1, side // 2)).to(image.dtype)

    def sample(self, image: Tensor, places: Tensor, kernel: Kernel) -> Tensor:
        return sample(self, image, places, kernel)

    def warp(self, image: Tensor, flow: Tensor, mode: WarpMode = "bilinear") -> Tensor:
        return _as_planes(image, lambda planes: warp_latent(planes, flow, mode, "edge"))

    def to_lab(self, picture: Tensor) -> Tensor:
        return lab.to_lab(self, picture)

    def from_lab(self, colours: Tensor) -> Tensor:
        return lab.from_lab(self, colours)

    def dct(self, array: Tensor) -> Tensor:
        return cosine.dct(self, cosine.dct(self, array, 0), 1)

    def inverse_dct(self, array: Tensor) -> Tensor:
        return cosine.inverse_dct(self, cosine.inverse_dct(self, array, 0), 1)

    def _mirror(self, image: Tensor, width: int) -> Tensor:
        rows, columns = (self.constant(_mirrored, size, width) for size in image.shape[:2])
        return image.index_select(0, rows).index_select(1, columns)


@cache
def operations_on(home: torch.device) -> _Device:
    """Return the operations of a device, the same ones at each call."""
    return _Device(home)


def _landed(array: Tensor, done: torch.cuda.Event) -> np.ndarray:
    """Wait, and copy: pinned memory is scarce, and goes back to torch."""
    done.synchronize()
    return array.numpy().copy()


def _as_planes(image: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """Give (H, W) or (H, W, C) to what works on (1, C, H, W)."""
    planes = image[None, None] if image.ndim == 2 else image.permute(2, 0, 1)[None]
    made = work(planes)[0]
    return made[0] if image.ndim == 2 else made.permute(1, 2, 0).contiguous()


def _weighted(image: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Sum of an axis' neighbours, symmetric; shorter by all weights but one."""
    size = image.shape[axis] - len(weights) + 1
    total = torch.zeros_like(image.narrow(axis, 0, size))
    for start, weight in enumerate(weights):
        total.add_(image.narrow(axis, start, size), alpha=weight)
    return total


@cache
def _gaussian_weights(sigma: float) -> tuple[float, ...]:
    half = int(round(sigma * 8 + 1) | 1) // 2  # OpenCV's size for pictures of floats
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    return tuple(map(float, weights / weights.sum()))


def _repeated(size: int, before: int, after: int) -> np.ndarray:
    return np.clip(np.arange(-before, size + after), 0, size - 1)


def _mirrored(size: int, width: int) -> np.ndarray:
    """Indices that continue an axis on both sides, mirrored at the edge pixel's centre."""
    index = np.arange(-width, size + width)
    return np.abs((index + size - 1) % (2 * size - 2) - (size - 1)) if size > 1 else np.zeros_like(index)
