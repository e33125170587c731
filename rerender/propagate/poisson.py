"""The screened Poisson equation on a rectangle with Neumann borders, solved exactly by the cosine transform."""

from __future__ import annotations

import numpy as np

from rerender.arrays import Array, namespace


def screened_poisson(values: Array, gradient_x: Array, gradient_y: Array, gain: float) -> Array:
    """Return the u that minimises Σ (u - values)² + gain² · Σ |∇u - gradient|², ∇ being forward differences.

    The normal equation (1 + gain²·∇ᵀ∇) u = values + gain²·∇ᵀ gradient has constant coefficients, and ∇ᵀ∇ is
    diagonal in the DCT-II basis with eigenvalues 4 - 2·cos(πi/H) - 2·cos(πj/W).

    Args:
        values: (H, W) or (H, W, C), any range.
        gradient_x: the same shape; the wanted u(y, x+1) - u(y, x). The last column is ignored.
        gradient_y: the same shape; the wanted u(y+1, x) - u(y, x). The last row is ignored.
        gain: weight of the gradients, ≥ 0.

    Returns:
        The shape of `values`, float32 (float64 where `values` is).
    """
    xp = namespace(values)
    height, width = values.shape[:2]
    denominator = xp.astype(xp.constant(_denominator, height, width, gain), values.dtype)
    right = values + gain**2 * gradient_transposed(gradient_x, gradient_y)
    spectrum = xp.dct(right) / denominator.reshape(height, width, *(1,) * (values.ndim - 2))
    return xp.inverse_dct(spectrum)


def gradient_transposed(gradient_x: Array, gradient_y: Array) -> Array:
    """Apply ∇ᵀ, the negative divergence, to a field of forward differences; the shapes are alike."""
    total = namespace(gradient_x).zeros(gradient_x.shape, gradient_x.dtype)
    total[:, :-1] -= gradient_x[:, :-1]
    total[:, 1:] += gradient_x[:, :-1]
    total[:-1] -= gradient_y[:-1]
    total[1:] += gradient_y[:-1]
    return total


def _denominator(height: int, width: int, gain: float) -> np.ndarray:
    """1 + gain² times the eigenvalues of ∇ᵀ∇, (H, W) float64."""
    rows = 2 - 2 * np.cos(np.pi * np.arange(height) / height)
    columns = 2 - 2 * np.cos(np.pi * np.arange(width) / width)
    return 1 + gain**2 * (rows[:, None] + columns[None])
