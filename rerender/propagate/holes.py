"""Filling what a warp cannot know from the surface that it belongs to, not from whatever is nearest.

A hole that opens behind a moving object lies between the object and the background; only the background may flow in.
Which neighbours a pixel is filled from, and when, follows from the input frames alone (`plan_filling`, on the host);
the results that are filled (`Filling.of`) may lie on a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from rerender.arrays import HOST, Array, namespace

_REACH = 2
_WINDOW = [
    (dy, dx)
    for dy in range(-_REACH, _REACH + 1)
    for dx in range(-_REACH, _REACH + 1)
    if (dy, dx) != (0, 0)
]  # fmt: skip
_SURE = 0.25  # sum of weights; a single neighbour at distance 2 that is just alike


@dataclass(frozen=True)
class Filling:
    """How holes are filled, from their rims inwards: rings of pixels, each a weighted mean of 24 neighbours.

    Attributes:
        sizes: pixels of each ring, in the order of the work.
        pixels: (N,) int64, all rings' pixels, as indices into a flat picture with a margin of 2 pixels.
        weights: (24, N) float32, of their neighbours in the order of the window; not divided by their sums.
    """

    sizes: tuple[int, ...]
    pixels: Array
    weights: Array

    def of(self, values: Array) -> Array:
        """Return (H, W, C) float32 values with the holes filled; unchanged outside of them."""
        if not self.sizes:
            return values
        xp = namespace(values)
        padded = xp.contiguous(xp.pad_zero(xp.astype(values, xp.float32), _REACH))
        flat = padded.reshape(-1, padded.shape[2])
        around = xp.constant(_offsets, padded.shape[1])
        for here in self._rings():
            pixels, weights = self.pixels[here], self.weights[:, here]
            near = flat[pixels[None] + around[:, None]] * weights[..., None]
            flat[pixels] = xp.total(near) / xp.total(weights)[:, None]
        return padded[_REACH:-_REACH, _REACH:-_REACH]

    def _rings(self) -> Iterator[slice]:
        start = 0
        for size in self.sizes:
            yield slice(start, start + size)
            start += size


def plan_filling(holes: np.ndarray, likeness: np.ndarray) -> Filling:
    """Decide from which neighbours holes are filled: from those that are most alike.

    Args:
        holes: (H, W) bool. If everything is a hole, nothing is filled.
        likeness: (H, W, D) float32, scaled so that a difference of 1 halves the trust, for example
             flow in pixels and colours / 24.
    """
    alike = np.pad(likeness.astype(np.float32), ((_REACH, _REACH), (_REACH, _REACH), (0, 0)))
    alike = alike.reshape(-1, alike.shape[2])
    known, empty = np.pad(~holes, _REACH), np.pad(holes, _REACH)
    around = _offsets(known.shape[1])
    rings: list[tuple[np.ndarray, np.ndarray]] = []
    while not holes.all() and empty.any():
        rim = empty & (cv2.dilate(known.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        pixels = np.flatnonzero(rim)
        weights = _weights(alike, known.ravel(), pixels, around)
        trust = HOST.total(weights)
        # A pixel with nobody alike around it waits until its own surface has come that far, if it ever does.
        sure = trust >= _SURE if (trust >= _SURE).any() else np.ones_like(trust, bool)
        pixels = pixels[sure]
        rings.append((pixels, weights[:, sure]))
        known.ravel()[pixels] = True
        empty.ravel()[pixels] = False
    nothing = (np.zeros(0, np.int64), np.zeros((len(_WINDOW), 0), np.float32))
    pixels, weights = (np.concatenate(parts, -1) for parts in zip(*(rings or [nothing]), strict=True))
    return Filling(tuple(len(ring) for ring, _ in rings), pixels, weights)


def _weights(alike: np.ndarray, known: np.ndarray, pixels: np.ndarray, around: np.ndarray) -> np.ndarray:
    """How much each neighbour of some pixels counts, (24, N) float32."""
    here = alike[pixels]
    weights = np.empty((len(_WINDOW), len(pixels)), np.float32)
    for weight, offset, (dy, dx) in zip(weights, around, _WINDOW, strict=True):
        there = pixels + offset
        difference = ((alike[there] - here) ** 2).sum(1)
        # The floor keeps a sum of weights above zero where no neighbour is alike.
        weight[:] = known[there] * (np.exp2(-difference) + np.float32(1e-6)) / np.float32(dy * dy + dx * dx)
    return weights


def _offsets(columns: int) -> np.ndarray:
    """The window as steps in a flat picture, (24,) int64."""
    return np.array([dy * columns + dx for dy, dx in _WINDOW], np.int64)
