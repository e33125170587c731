"""One direction of an interval: from its key frame through the frames, each started from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rerender.motion.flow import FlowPair
from rerender.motion.occlusion import hidden
from rerender.motion.warp import compose_flow, warp
from rerender.propagate.backend import Synthesizer
from rerender.propagate.follow import Key, sample_picture, trust_in_flow
from rerender.propagate.guides import frame_guides, pixel_grid
from rerender.propagate.holes import fill_holes
from rerender.propagate.settings import PropagationSettings

_PIXELS_ALIKE = 1.0  # flows that differ by this many pixels are half as trustworthy (see fill_holes)
_COLOURS_ALIKE = 24.0  # and colours by this much
_AROUND = (7, 7)  # pixels synthesised around those that are wanted, so that patches there see the same things


@dataclass(frozen=True)
class Step:
    """What leads from one frame of a sweep to the next.

    Attributes:
        motion: forward = this frame → the one before, backward = the reverse; None across a scene cut.
        onward: this frame → the one after, (H, W, 2); None where there is none.
    """

    motion: FlowPair | None
    onward: np.ndarray | None


@dataclass(frozen=True)
class Swept:
    """A frame as one direction gives it.

    Attributes:
        picture: (H, W, 3) uint8.
        error: (H, W) float32, of the synthesis; 0 where none was needed.
        trust: (H, W) float32 in [0, 1]: share of the key's picture, followed along the flow; the rest is synthesised.
        seen: (H, W) float32 in [0, 1]: whether a pixel has been visible in all frames since the key.
    """

    picture: np.ndarray
    error: np.ndarray
    trust: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class _Carried:
    """What the frame before hands on, brought here along the flow, holes filled.

    Attributes:
        to_key: (H, W, 2) float32, flow to the key frame.
        picture: (H, W, 3) float32, the result.
        field: (H, W, 2) int32, the matches.
        seen: (H, W) float32 in [0, 1], whether a pixel has been visible since the key frame.
    """

    to_key: np.ndarray
    picture: np.ndarray
    field: np.ndarray
    seen: np.ndarray


@dataclass
class _State:
    """The frame before: input, result, matches, and flow to the key frame."""

    frame: np.ndarray
    result: Swept
    field: np.ndarray
    to_key: np.ndarray


def sweep(
    frames: Sequence[np.ndarray],
    key: np.ndarray,
    steps: Sequence[Step],
    settings: PropagationSettings,
    synthesizer: Synthesizer,
) -> Iterator[Swept]:
    """Yield frames[1], frames[2], … in the style of `key`, the picture of frames[0].

    Args:
        frames: in the order of the sweep, (H, W, 3) uint8.
        key: (H, W, 3) uint8.
        steps: steps[i] leads from frames[i] to frames[i + 1].
        settings: weights and effort.
        synthesizer: the backend.
    """
    prepared = Key.of(frames[0], key)
    state = _at_key(prepared)
    for frame, step in zip(frames[1:], steps, strict=False):
        if step.motion is None or not settings.temporal:
            state = _start_anew(prepared, frame, settings, synthesizer)
        else:
            state = _go_on(prepared, state, frame, step.motion, step.onward, settings, synthesizer)
        yield state.result


def _at_key(key: Key) -> _State:
    height, width = key.frame.shape[:2]
    nothing = np.zeros((height, width), np.float32)
    field = pixel_grid(height, width).astype(np.int32)
    start = Swept(key.picture, nothing, nothing + 1, nothing + 1)
    return _State(key.frame, start, field, np.zeros((height, width, 2), np.float32))


def _start_anew(key: Key, frame: np.ndarray, settings: PropagationSettings, synthesizer: Synthesizer) -> _State:
    """A frame that no flow connects with the key."""
    guides = frame_guides(settings, key.frame, key.picture, frame, None, None)
    made = synthesizer(key.picture, guides, None, None)
    nothing = np.zeros(frame.shape[:2], np.float32)
    to_key = made.nnf - pixel_grid(*frame.shape[:2])
    return _State(frame, Swept(made.picture, made.error, nothing, nothing), made.nnf, to_key)


def _go_on(
    key: Key, state: _State, frame: np.ndarray, motion: FlowPair, onward: np.ndarray | None,
    settings: PropagationSettings, synthesizer: Synthesizer,
) -> _State:  # fmt: skip
    """Follow the key's picture where that can be trusted, and synthesise the rest."""
    carried = _carry(state, frame, motion, onward)
    places = pixel_grid(*frame.shape[:2]) + carried.to_key
    trust = trust_in_flow(key, frame, places, carried.seen) if settings.follow else np.zeros_like(carried.seen)
    wanted = trust < 1
    field = np.where(wanted[..., None], carried.field, np.rint(places).astype(np.int32))
    picture, error = sample_picture(key, places), np.zeros_like(trust)
    if wanted.any():
        mask = cv2.dilate(wanted.astype(np.uint8), np.ones(_AROUND, np.uint8)) > 0
        guides = frame_guides(settings, key.frame, key.picture, frame, carried.to_key, carried.picture)
        made = synthesizer(key.picture, guides, field, mask)
        picture = made.picture + trust[..., None] * (picture - made.picture)
        field, error = np.where(mask[..., None], made.nnf, field), made.error
    result = Swept(np.rint(picture).astype(np.uint8), error, trust, carried.seen)
    return _State(frame, result, field, carried.to_key)


def _carry(state: _State, frame: np.ndarray, motion: FlowPair, onward: np.ndarray | None) -> _Carried:
    flow = motion.forward
    holes = hidden(frame, state.frame, motion)
    to_key = compose_flow(flow, state.to_key)
    picture = warp(state.result.picture.astype(np.float32), flow)
    likeness = frame.astype(np.float32) / np.float32(_COLOURS_ALIKE)
    if onward is not None:  # the flow to the frame before is what the hole has not got
        likeness = np.concatenate([likeness, onward / np.float32(_PIXELS_ALIKE)], 2)
    filled = fill_holes(np.concatenate([to_key, picture], 2), holes, likeness)
    to_key, picture = np.ascontiguousarray(filled[..., :2]), filled[..., 2:]
    field = warp(state.field, flow, mode="nearest")
    guess = np.rint(pixel_grid(*flow.shape[:2]) + to_key).astype(np.int32)
    seen = np.where(holes, np.float32(0), warp(state.result.seen, flow))
    return _Carried(to_key, picture, np.where(holes[..., None], guess, field), seen)
