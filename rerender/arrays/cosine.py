"""The orthonormal DCT-II in torch, by one FFT of the same length (Makhoul, "A Fast Cosine Transform", 1980).

Not by matrix products, which a GPU may round to 10 bits (TF32) by a switch that belongs to the whole process.
"""

from __future__ import annotations

import numpy as np
import torch

from rerender.arrays.operations import Operations


def dct(xp: Operations, array: torch.Tensor, axis: int) -> torch.Tensor:
    """Transform one axis: float32 or float64, like scipy.fft.dct(norm="ortho")."""
    size = array.shape[axis]
    spectrum = torch.fft.fft(array.index_select(axis, xp.constant(_order, size)), dim=axis)
    return (spectrum * _along(xp.constant(_turns, size), axis, spectrum)).real


def inverse_dct(xp: Operations, array: torch.Tensor, axis: int) -> torch.Tensor:
    """Undo `dct`."""
    size = array.shape[axis]
    ahead = array.narrow(axis, 0, size // 2 + 1)
    behind = _backwards(xp, array, axis, size // 2 + 1)
    spectrum = torch.complex(ahead, -behind) / _along(xp.constant(_turns, size), axis, ahead)
    return torch.fft.irfft(spectrum, size, axis).index_select(axis, xp.constant(_places, size))


def _backwards(xp: Operations, array: torch.Tensor, axis: int, count: int) -> torch.Tensor:
    """`count` coefficients from beyond the last one, which is zero, downwards."""
    taken = array.index_select(axis, xp.constant(_descending, array.shape[axis], count))
    taken.narrow(axis, 0, 1).zero_()
    return taken


def _along(turns: torch.Tensor, axis: int, array: torch.Tensor) -> torch.Tensor:
    """The first factors of `turns`, shaped to multiply an axis, in the precision of `array`."""
    shape = [-1 if dimension == axis else 1 for dimension in range(array.ndim)]
    turns = turns[: array.shape[axis]].reshape(shape)
    return turns if array.dtype in (torch.float64, torch.complex128) else turns.to(torch.complex64)


def _turns(size: int) -> np.ndarray:
    """What the FFT's coefficients are multiplied with, (size,) complex128."""
    turns = np.exp(-0.5j * np.pi * np.arange(size) / size) * np.sqrt(2 / size)
    turns[0] = np.sqrt(1 / size)
    return turns


def _order(size: int) -> np.ndarray:
    """Even places ascending, then odd ones descending."""
    return np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)[::-1]])


def _places(size: int) -> np.ndarray:
    return np.argsort(_order(size))


def _descending(size: int, count: int) -> np.ndarray:
    return np.minimum(size - np.arange(count), size - 1)
