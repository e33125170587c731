"""PROVISIONAL propagation by warping both keys; the guided patch synthesis replaces it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rerender.errors import Interrupted, UserError
from rerender.propagate.settings import PropagationSettings

FlowEstimator = Callable[[np.ndarray, np.ndarray], np.ndarray]
Frames = Sequence[np.ndarray] | Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class IntervalJob:
    """One interval: frames k..k+n, the keys at its ends (None: no key on this side), offsets of cuts."""

    frames: Frames
    first_key: np.ndarray | None
    last_key: np.ndarray | None
    cuts: Sequence[int] = ()


def propagate_interval(
    frames: Frames,
    first_key: np.ndarray | None,
    last_key: np.ndarray | None,
    settings: PropagationSettings | None = None,
    *,
    flow: FlowEstimator | None = None,
    cuts: Sequence[int] = (),
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (offset, uint8 RGB picture) of the frames between the keys, in ascending order."""
    clip = frames() if callable(frames) else frames
    if first_key is None and last_key is None:
        raise UserError("An interval without a key frame cannot be propagated.")
    for key in (first_key, last_key):
        if key is not None and key.shape != clip[0].shape:
            raise UserError(f"A key frame has the size {key.shape[:2]}, the video {clip[0].shape[:2]}.")
    count = len(clip) - 1
    estimate = flow or _dis
    start = 0 if first_key is None else 1
    stop = count + 1 if last_key is None else count
    for offset in range(start, stop):
        if cancelled is not None and cancelled():
            raise Interrupted()
        sides = []
        if first_key is not None and not (last_key is not None and any(c <= offset for c in cuts)):
            sides.append((first_key, clip[0], 1 - offset / max(count, 1)))
        if last_key is not None and not (sides and any(c > offset for c in cuts)):
            sides.append((last_key, clip[-1], offset / max(count, 1)))
        total, weights = np.zeros(clip[0].shape, np.float32), 1e-6
        for key, source, weight in sides:
            field = estimate(clip[offset], source)
            total += weight * _warp(key, field)
            weights += weight
        yield offset, np.clip(np.rint(total / weights), 0, 255).astype(np.uint8)


def propagate_all(
    jobs: Iterable[IntervalJob],
    settings: PropagationSettings | None = None,
    *,
    workers: int | None = None,
    flow: FlowEstimator | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (job index, offset, uint8 RGB picture) of all jobs, in order."""
    for index, job in enumerate(jobs):
        for offset, picture in propagate_interval(
            job.frames, job.first_key, job.last_key, settings, flow=flow, cuts=job.cuts, cancelled=cancelled
        ):
            yield index, offset, picture


def _warp(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    height, width = field.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    return cv2.remap(image, grid + field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _dis(reference: np.ndarray, target: np.ndarray) -> np.ndarray:
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (reference, target)]
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*gray, None)
