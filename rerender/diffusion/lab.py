"""Colours of a finished key frame brought back to the anchor's: histogram matching in CIELAB, on what both show."""

from __future__ import annotations

import cv2
import numpy as np

LEAST_SHARE = 0.05
"""Share of the rendered pixels that must be visible in the anchor; else nothing is changed."""


def match_histograms(
    picture: np.ndarray, reference: np.ndarray, weight: np.ndarray, style: np.ndarray | None = None
) -> np.ndarray:
    """Map each Lab channel of `picture` so that its distribution over the weighted pixels is the reference's.

    Args:
        picture: uint8 RGB (H, W, 3), changed as a whole.
        reference: uint8 RGB (H, W, 3), aligned with `picture`.
        weight: (H, W) in [0, 1], how far a pixel shows the same thing in both.
        style: (H, W) in [0, 1], 1 where the picture is rendered; only that counts. None is everywhere.
    """
    rendered = weight.size if style is None else style.sum()
    weight = weight if style is None else weight * style
    if not weight.any() or weight.sum() < LEAST_SHARE * rendered:
        return picture
    lab, target = (_to_levels(each) for each in (picture, reference))
    mapped = [_match_channel(lab[..., c], target[..., c], weight) for c in range(3)]
    return _from_levels(np.stack(mapped, -1))


def _to_levels(picture: np.ndarray) -> np.ndarray:
    """uint8 RGB → float32 Lab with each channel on a scale of 0 to 255."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab * np.array([2.55, 1, 1], np.float32) + np.array([0, 128, 128], np.float32)


def _from_levels(levels: np.ndarray) -> np.ndarray:
    lab = ((levels - [0, 128, 128]) / [2.55, 1, 1]).astype(np.float32)
    return (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255).round().astype(np.uint8)


def _match_channel(values: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W): the monotone map from one cumulative distribution to the other, applied between levels too."""
    levels = np.arange(256)
    own, wanted = (_ranks(each.round().clip(0, 255).astype(np.uint8), weight) for each in (values, target))
    return np.interp(values, levels, np.interp(own, wanted, levels))


def _ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of the weighted pixels below each level, counting half of those at it, (256,), strictly ascending."""
    counts = np.bincount(values.ravel(), weights=weight.ravel().astype(np.float64), minlength=256) + 1e-9
    return (np.cumsum(counts) - 0.5 * counts) / counts.sum()
