"""One direction of an interval: from its key frame through the frames, each started from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rerender.motion.flow import FlowPair
from rerender.motion.occlusion import hidden
from rerender.motion.warp import compose_flow, warp
from rerender.propagate.backend import Synthesizer
from rerender.propagate.guides import frame_guides, pixel_grid
from rerender.propagate.holes import fill_holes
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.synthesis import Synthesis

_PIXELS_ALIKE = 1.0  # flows that differ by this many pixels are half as trustworthy (see fill_holes)
_COLOURS_ALIKE = 24.0  # and colours by this much


@dataclass(frozen=True)
class Step:
    """What leads from one frame of a sweep to the next.

    Attributes:
        motion: forward = this frame → the one before, backward = the reverse; None across a scene cut.
        onward: this frame → the one after, (H, W, 2); None where there is none.
    """

    motion: FlowPair | None
    onward: np.ndarray | None


@dataclass
class _State:
    """The frame before: input, result, and how its pixels map to the key frame."""

    frame: np.ndarray
    result: Synthesis
    to_key: np.ndarray


def sweep(
    frames: Sequence[np.ndarray],
    key: np.ndarray,
    steps: Sequence[Step],
    settings: PropagationSettings,
    synthesizer: Synthesizer,
) -> Iterator[Synthesis]:
    """Yield the synthesis of frames[1], frames[2], … from `key`, the picture of frames[0].

    Args:
        frames: in the order of the sweep, (H, W, 3) uint8.
        key: (H, W, 3) uint8.
        steps: steps[i] leads from frames[i] to frames[i + 1].
        settings: weights and effort.
        synthesizer: the backend.
    """
    height, width = key.shape[:2]
    start = Synthesis(key, pixel_grid(height, width).astype(np.int32), np.zeros((height, width), np.float32))
    state = _State(frames[0], start, np.zeros((height, width, 2), np.float32))
    for frame, step in zip(frames[1:], steps, strict=False):
        if step.motion is None or not settings.temporal:
            guides = frame_guides(settings, frames[0], key, frame, None, None)
            result = synthesizer(key, guides, None)
            to_key = result.nnf - pixel_grid(height, width)
        else:
            to_key, carried, field = _carry(state, frame, step.motion, step.onward)
            guides = frame_guides(settings, frames[0], key, frame, to_key, carried)
            result = synthesizer(key, guides, field)
        state = _State(frame, result, to_key)
        yield result


def _carry(
    state: _State, frame: np.ndarray, motion: FlowPair, onward: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring flow to the key, picture and field of the frame before onto this one, holes filled."""
    flow = motion.forward
    holes = hidden(frame, state.frame, motion)
    to_key = compose_flow(flow, state.to_key)
    carried = warp(state.result.picture.astype(np.float32), flow)
    likeness = frame.astype(np.float32) / np.float32(_COLOURS_ALIKE)
    if onward is not None:  # the flow to the frame before is what the hole has not got
        likeness = np.concatenate([likeness, onward / np.float32(_PIXELS_ALIKE)], 2)
    filled = fill_holes(np.concatenate([to_key, carried], 2), holes, likeness)
    to_key, carried = np.ascontiguousarray(filled[..., :2]), filled[..., 2:]
    field = warp(state.result.nnf, flow, mode="nearest")
    guess = np.rint(pixel_grid(*flow.shape[:2]) + to_key).astype(np.int32)
    field = np.where(holes[..., None], guess, field)
    return to_key, carried, field
