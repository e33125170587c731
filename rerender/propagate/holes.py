"""Filling what a warp cannot know from the surface that it belongs to, not from whatever is nearest."""

from __future__ import annotations

import cv2
import numpy as np

_WINDOW = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
_SURE = 0.25  # sum of weights; a single neighbour at distance 2 that is just alike


def fill_holes(values: np.ndarray, holes: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Fill holes from their rims inwards, each pixel from those around it that are most alike.

    A hole that opens behind a moving object lies between the object and the background; only the background may
    flow in. `likeness` tells them apart: its differences decide which known neighbours count.

    Args:
        values: (H, W, C) float32.
        holes: (H, W) bool. If everything is a hole, `values` comes back unchanged.
        likeness: (H, W, D) float32, scaled so that a difference of 1 halves the trust, for example
             flow in pixels and colours / 24.

    Returns:
        (H, W, C) float32; unchanged outside of the holes.
    """
    if not holes.any() or holes.all():
        return values
    filled = np.pad(values.astype(np.float32), ((2, 2), (2, 2), (0, 0)))
    alike = np.pad(likeness.astype(np.float32), ((2, 2), (2, 2), (0, 0)))
    known, empty = np.pad(~holes, 2), np.pad(holes, 2)
    while empty.any():
        rim = empty & (cv2.dilate(known.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        ys, xs = np.nonzero(rim)
        found, trust = _from_around(filled, alike, known, ys, xs)
        # A pixel with nobody alike around it waits until its own surface has come that far, if it ever does.
        sure = trust >= _SURE if (trust >= _SURE).any() else np.ones_like(trust, bool)
        ys, xs = ys[sure], xs[sure]
        filled[ys, xs] = found[sure]
        known[ys, xs] = True
        empty[ys, xs] = False
    return filled[2:-2, 2:-2]


def _from_around(
    filled: np.ndarray, alike: np.ndarray, known: np.ndarray, ys: np.ndarray, xs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of the known neighbours, (N, C), and the sums of the weights, (N,)."""
    total = np.zeros((len(ys), filled.shape[2]), np.float32)
    weights = np.zeros(len(ys), np.float32)
    here = alike[ys, xs]
    for dy, dx in _WINDOW:
        there = (ys + dy, xs + dx)
        difference = ((alike[there] - here) ** 2).sum(1)
        # The floor keeps a sum of weights above zero where no neighbour is alike.
        weight = known[there] * (np.exp2(-difference) + np.float32(1e-6)) / np.float32(dy * dy + dx * dx)
        total += filled[there] * weight[:, None]
        weights += weight
    return total / weights[:, None], weights
