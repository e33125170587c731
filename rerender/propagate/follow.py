"""The key's picture itself, followed along the flow, wherever the input frames confirm that the flow is right.

A synthesis may match a patch anywhere that looks alike, and elsewhere again in the next frame: texture wanders. Where
the flow to the key can be verified, its picture is sampled along it instead: once, straight from the key, so nothing
adds up from frame to frame. The synthesis serves where that fails: at holes, outlines, wrong flow, changed light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rerender.propagate.guides import pixel_grid

_ALIKE, _UNLIKE = 0.7, 1.5  # mean difference of the inputs, in levels: from fully trusted to not at all …
_NOISE_MOST = 4.0  # … above the noise of the clip, its median, of which this much is believed
_WINDOW = (5, 5)
_LENIENCE, _SHEAR = 4.0, (1.0, 4.0)
_REACH = (3, 3)
_AROUND = (9, 9)
_RIM = 1.5  # pixels over which trust falls towards the edge of an untrusted area


@dataclass(frozen=True)
class Key:
    """A key frame: input and picture, (H, W, 3) uint8, and the picture's least and largest values in 3×3 pixels."""

    frame: np.ndarray
    picture: np.ndarray
    least: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, frame: np.ndarray, picture: np.ndarray) -> Key:
        """Prepare a key frame for `sample_picture`."""
        around = np.ones((3, 3), np.uint8)
        return cls(frame, picture, cv2.erode(picture, around), cv2.dilate(picture, around))


def sample_picture(key: Key, places: np.ndarray) -> np.ndarray:
    """Return the key's picture at real places, (H, W, 2) → (H, W, 3) float32: Lanczos' kernel without its ringing."""
    sharp = _sample(key.picture.astype(np.float32), places, cv2.INTER_LANCZOS4)
    least, largest = (_sample(bound, places, cv2.INTER_NEAREST) for bound in (key.least, key.largest))
    return np.clip(sharp, least, largest)


def trust_in_flow(key: Key, frame: np.ndarray, places: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """How far the key may be followed: 1 where its input, sampled at `places`, looks like the frame; (H, W) float32.

    Differences are means over 5×5 pixels and measured against the noise of the clip, which is their median.

    Args:
        key: the key frame.
        frame: (H, W, 3) uint8, the input.
        places: (H, W, 2), pixels of the key that the frame's pixels come from.
        seen: (H, W) in [0, 1], whether the pixel has been visible since the key.
    """
    sampled = _sample(key.frame.astype(np.float32), places, cv2.INTER_CUBIC)
    difference = cv2.blur(np.abs(sampled - frame).mean(2), _WINDOW)
    height, width = frame.shape[:2]
    x, y = places[..., 0], places[..., 1]
    visible = (seen > 0.5) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    noise = min(float(np.median(difference[visible])), _NOISE_MOST) if visible.any() else 0.0
    lenience = 1 + _LENIENCE * (1 - ramp(_shear(places), *_SHEAR))
    trust = (1 - ramp(difference / lenience, _ALIKE + noise, _UNLIKE + 2 * noise)) * visible
    inner = cv2.GaussianBlur(cv2.erode(trust, np.ones(_REACH, np.uint8)), (0, 0), _RIM)
    return np.asarray(np.minimum(trust, inner), np.float32)


def _shear(places: np.ndarray) -> np.ndarray:
    """By how many pixels the surroundings of a pixel have moved apart since the key, (H, W)."""
    around = np.ones(_AROUND, np.uint8)
    still = places - pixel_grid(*places.shape[:2])
    return np.asarray(np.hypot(*cv2.split(cv2.dilate(still, around) - cv2.erode(still, around))))


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _sample(image: np.ndarray, places: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.remap(image, places.astype(np.float32), np.empty(0), interpolation, borderMode=cv2.BORDER_REPLICATE)
