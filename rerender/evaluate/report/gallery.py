"""What the report shows of the clips: film strips, worst frames, motion, slices through time, and the video."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isnan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerender.evaluate.figures import ClipFigures
from rerender.evaluate.frames import Clip
from rerender.evaluate.motion import Frame, MotionSource
from rerender.evaluate.report.pictures import (
    busiest_row,
    error_picture,
    fit,
    hidden_picture,
    slice_picture,
)
from rerender.motion.pictures import flow_picture
from rerender.video.write import open_writer

VIDEO_FRAMES = 300
"""Longer clips show their beginning."""
_SLICE_ROWS = 480
_PANEL = 320


@dataclass(frozen=True)
class WorstFrame:
    """A frame with a high warp error, the one before, and where they differ."""

    number: int
    error: float
    previous: Frame
    frame: Frame
    difference: Frame


@dataclass(frozen=True)
class MotionView:
    """The motion between two neighbouring frames of the source."""

    number: int
    frame: Frame
    flow: Frame
    hidden: Frame
    greatest: float
    """Pixels that full colour stands for."""


def strip_numbers(frames: int, count: int = 5) -> list[int]:
    """Frames spread over the clip, the first and the last among them."""
    return sorted({round((frames - 1) * i / (count - 1)) for i in range(count)})


def worst_numbers(result: ClipFigures, source: ClipFigures, count: int = 3, apart: int = 3) -> list[int]:
    """Frames whose warp error exceeds the source's most, not closer together than `apart`."""
    excess = np.array(result.series["warp_error"]) - np.array(source.series["warp_error"])
    order = sorted((i for i, value in enumerate(excess) if not isnan(value)), key=lambda i: -excess[i])
    chosen: list[int] = []
    for number in order:
        if len(chosen) < count and all(abs(number - other) >= apart for other in chosen):
            chosen.append(number)
    return chosen


def worst_frame(result: Clip, source: Clip, motion: MotionSource, figures: ClipFigures, number: int) -> WorstFrame:
    """Pictures of one of `worst_numbers`."""
    previous, frame = result[number - 1], result[number]
    pair = motion.between(number - 1, number, source[number - 1], source[number])
    difference = error_picture(frame, previous, pair.backward, pair.visible_b)
    return WorstFrame(number, figures.series["warp_error"][number], previous, frame, difference)


def motion_view(source: Clip, motion: MotionSource, number: int) -> MotionView:
    """Flow from the frame before to frame `number`, and what of this frame that one does not show."""
    pair = motion.between(number - 1, number, source[number - 1], source[number])
    lengths = np.hypot(pair.forward[..., 0], pair.forward[..., 1])
    greatest = max(1.0, float(np.percentile(lengths, 99)))
    return MotionView(
        number,
        source[number],
        flow_picture(pair.forward, greatest),
        hidden_picture(source[number], pair.visible_b),
        greatest,
    )


def time_slices(clips: Sequence[Clip], frames: int) -> tuple[int, list[Frame]]:
    """The row that is cut, and an x–t slice of each clip; long clips are thinned out."""
    row = busiest_row([clips[0][number] for number in strip_numbers(frames)])
    numbers = np.unique(np.linspace(0, frames - 1, min(frames, _SLICE_ROWS)).round().astype(int))
    return row, [slice_picture([_row(clip, int(number), row) for number in numbers]) for clip in clips]


def video_uri(clips: Sequence[Clip], frames: int, rate: float) -> str:
    """All clips beside each other as a small H.264 video, as a data URI."""
    shown = min(frames, VIDEO_FRAMES)
    tick = 1 / Fraction(rate).limit_denominator(1001)
    height, width = _beside(clips, 0).shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "side-by-side.mp4"
        times = [tick * number for number in range(shown)]
        with open_writer(path, width=width, height=height, times=times, quality=27) as writer:
            for number, time in enumerate(times):
                writer.write(_beside(clips, number), time, tick)
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _beside(clips: Sequence[Clip], number: int) -> Frame:
    joined = np.concatenate([fit(clip[number], _PANEL) for clip in clips], axis=1)
    return joined[: joined.shape[0] // 2 * 2, : joined.shape[1] // 2 * 2]


def _row(clip: Clip, number: int, row: int) -> NDArray[np.uint8]:
    return clip[number][row].copy()
