"""The guides of one frame: what its patches must agree with in the key frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.arrays import Array, namespace
from rerender.outlines import outline_picture
from rerender.propagate.problem import Guide
from rerender.propagate.settings import PropagationSettings


@dataclass(frozen=True)
class Input:
    """An input frame and what is found in it.

    Attributes:
        frame: (H, W, 3) uint8.
        edges: (H, W, 3) float32, see `edge_picture`.
        outlines: (H, W) float32, see `rerender.outlines.outline_picture`.
    """

    frame: Array
    edges: Array
    outlines: Array

    @classmethod
    def of(cls, frame: Array) -> Input:
        """Prepare a frame."""
        return cls(frame, edge_picture(frame), outline_picture(frame))


def edge_picture(frame: Array) -> Array:
    """Laplacian of a frame around 128: (H, W, 3) uint8 → (H, W, 3) float32 in 0–255."""
    xp = namespace(frame)
    return xp.clip(128 + xp.laplacian(frame), 0, 255)


def position_picture(flow: Array) -> Array:
    """Place that a flow points at, (H, W, 2) float32: pixels of both axes scaled so that the longer side is 255."""
    return places_of(flow) * float(np.float32(255 / (max(flow.shape[:2]) - 1)))


def places_of(flow: Array) -> Array:
    """Where a flow (H, W, 2) points: its pixels' coordinates plus itself."""
    return namespace(flow).constant(pixel_grid, *flow.shape[:2]) + flow


def pixel_grid(height: int, width: int) -> np.ndarray:
    """Coordinates (x, y) of each pixel, (H, W, 2) float32."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def frame_guides(
    settings: PropagationSettings,
    key: Input,
    key_picture: Array,
    here: Input,
    to_key: Array | None,
    carried: Array | None,
) -> list[Guide]:
    """Guides that lead from a key frame to another frame of the clip.

    Args:
        settings: weights; a weight of 0 leaves its guide out.
        key, here: the inputs of the key frame and of the other frame.
        key_picture: (H, W, 3) uint8, the stylised key frame.
        to_key: (H, W, 2) float32, flow frame → key frame; None: no position guide.
        carried: (H, W, 3), the previous result carried here by flow; None: no temporal guide.
    """
    guides = [Guide(key.frame, here.frame, settings.color_weight)]
    guides.append(Guide(key.edges, here.edges, settings.edge_weight))
    guides.append(Guide(key.outlines, here.outlines, settings.outline_weight))
    if to_key is not None:
        still = namespace(to_key).zeros(to_key.shape, to_key.dtype)
        guides.append(Guide(position_picture(still), position_picture(to_key), settings.position_weight))
    if carried is not None:
        # It was put together at quarters of a pixel already, and lags behind where outlines move.
        guides.append(Guide(key_picture, carried, settings.temporal_weight, refines=False))
    return [guide for guide in guides if guide.weight > 0] or guides[:1]
