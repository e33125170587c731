"""Pictures at real places in torch, with the arithmetic of OpenCV's remap: to 1/32 pixel, kernels from a table."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from rerender.arrays.operations import Kernel, Operations

_STEPS = 32


def sample(xp: Operations, image: torch.Tensor, places: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    """Do `Operations.sample`: image (H, W, C) or (H, W), places (h, w, 2) → (h, w, C) or (h, w)."""
    flat = image.flatten(0, 1)
    if kernel == "nearest":
        x, y = places.float().round().long().unbind(-1)
        index = _row(y, image) + _column(x, image)
        return flat.index_select(0, index.flatten()).unflatten(0, tuple(places.shape[:2]))
    steps = (places.float() * _STEPS).round().long()
    whole, part = steps // _STEPS, steps % _STEPS
    table = xp.constant(_lanczos if kernel == "lanczos" else _cubic)
    taken = _mix_taps(flat.float(), image, whole, *(table[part[..., axis].flatten()] for axis in range(2)))
    return taken.unflatten(0, tuple(places.shape[:2]))


def _mix_taps(
    flat: torch.Tensor, image: torch.Tensor, whole: torch.Tensor, across: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Sum over all taps; flat (H·W, …) float32, whole (h, w, 2) int64, weights (h·w, taps) → (h·w, …)."""
    taps, deep = across.shape[1], (slice(None), *(None,) * (flat.ndim - 1))
    first = 1 - taps // 2
    columns = [_column(whole[..., 0] + first + i, image).flatten() for i in range(taps)]
    total = torch.zeros_like(flat[:1]).expand(len(across), *flat.shape[1:]).contiguous()
    for j in range(taps):
        start, row = _row(whole[..., 1] + first + j, image).flatten(), torch.zeros_like(total)
        for i in range(taps):
            row.addcmul_(flat.index_select(0, start + columns[i]), across[:, i][deep])
        total.addcmul_(row, down[:, j][deep])
    return total


def _row(y: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return y.clamp(0, image.shape[0] - 1) * image.shape[1]


def _column(x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return x.clamp(0, image.shape[1] - 1)


@cache
def _lanczos() -> np.ndarray:
    """Weights of the taps at -3 … 4 for each 1/32 between 0 and 1, (32, 8) float32; they sum to 1."""
    away = np.arange(_STEPS)[:, None] / _STEPS - np.arange(-3, 5)[None]
    weights = np.sinc(away) * np.sinc(away / 4)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@cache
def _cubic() -> np.ndarray:
    """Weights of the taps at -1 … 2 (Keys, 1981, with a = -3/4), (32, 4) float32."""
    a, away = -0.75, np.abs(np.arange(_STEPS)[:, None] / _STEPS - np.arange(-1, 3)[None])
    near, far = ((a + 2) * away - (a + 3)) * away**2 + 1, ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return np.where(away <= 1, near, far).astype(np.float32)
