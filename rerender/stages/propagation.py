"""The stage that fills the frames between key frames."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import psutil

from rerender.errors import UserError
from rerender.events import Event, Meter, counted
from rerender.files import write_png
from rerender.motion.flow import flow_estimator
from rerender.planning import Interval
from rerender.propagate import IntervalJob, PropagationSettings, propagate_all
from rerender.propagate.backend import on_gpu
from rerender.propagate.memory import interval_memory
from rerender.propagate.pieces import PIECE
from rerender.settings import Settings, flow_of_propagation
from rerender.stages.context import RunContext
from rerender.video.read import FrameSource


def propagate(run: RunContext) -> None:
    """Make every frame between key frames that the project does not hold yet.

    Raises:
        UserError: a key frame is missing.
        Interrupted: the run was cancelled; finished intervals are kept.
    """
    _require_keys(run)
    intervals = run.plan.intervals
    todo = [interval for interval in intervals if not _is_done(run, interval)]
    if not todo:
        run.finish("propagate", kept=True)
        return
    run.begin("propagate")
    _say_what_is_replaced(run, todo)
    total = sum(len(interval.inner) for interval in intervals)
    meter = Meter(run.emit, "propagate", total, "frames", done=total - sum(len(i.inner) for i in todo))
    with run.source() as source:
        _write_frames(run, source, todo, meter)
    run.finish("propagate")


def propagation_settings(settings: Settings) -> PropagationSettings:
    """The part of the settings that the propagation module takes."""
    return PropagationSettings(
        preset=settings.propagation_preset,
        color_weight=settings.guide_color,
        position_weight=settings.guide_position,
        edge_weight=settings.guide_edge,
        outline_weight=settings.guide_outline,
        temporal_weight=settings.guide_temporal,
        poisson=settings.poisson,
        device="auto" if settings.device == "mps" else settings.device,
    )


def _write_frames(run: RunContext, source: FrameSource, todo: list[Interval], meter: Meter) -> None:
    pictures = propagate_all(
        _jobs(run, source, todo),
        propagation_settings(run.settings),
        workers=run.settings.workers or None,
        memory=_memory(run, todo),
        flow=flow_estimator(flow_of_propagation(run.settings)),
        cancelled=run.cancelled,
    )
    started = time.monotonic()
    left = [len(interval.inner) for interval in todo]
    with run.masking() as masking:
        for number, offset, picture in pictures:
            interval = todo[number]
            frame = interval.frames[offset]
            write_png(run.project.frame_path(frame), masking.apply(frame, picture))
            left[number] -= 1
            # Frames that workers made come together: all of an interval between two keys, or a piece of another one.
            is_last_of_piece = interval.is_one_way and (len(interval.inner) - left[number]) % PIECE == 0
            meter.advance(measured=not left[number] or is_last_of_piece)
            if not left[number]:
                _note_interval(run, interval, time.monotonic() - started)
                started = time.monotonic()


def _memory(run: RunContext, todo: list[Interval]) -> int:
    """What the largest interval takes on the CPU, in bytes; says so if that is more than there is."""
    size = run.plan.geometry.height, run.plan.geometry.width
    sizes = {i: interval_memory(len(i.frames), *size, one_way=i.is_one_way) for i in todo}
    largest = max(todo, key=sizes.__getitem__)
    free = psutil.virtual_memory().available
    if sizes[largest] > free and not on_gpu(propagation_settings(run.settings)):
        run.note(
            f"The {len(largest.frames)} frames {largest.name} need about {sizes[largest] / 2**30:.1f} GB of memory at "
            f"once, {free / 2**30:.1f} GB are free: key frames nearer together, or a smaller picture, need less"
        )
    return sizes[largest]


def _note_interval(run: RunContext, interval: Interval, seconds: float) -> None:
    run.project.add_interval(interval.name, run.interval_fingerprint(interval), seconds=seconds)
    facts = {"first": interval.frames[0], "last": interval.frames[-1], "seconds": round(seconds, 3)}
    run.emit(Event("frames", facts))


def _jobs(run: RunContext, source: FrameSource, intervals: list[Interval]) -> Iterator[IntervalJob]:
    """Frames and key frames of each interval; a frame that two of them share is decoded once.

    Those of an interval with one key frame are read in parts, when they are asked for.
    """
    position = run.plan.position
    kept: dict[int, np.ndarray] = {}
    for interval in intervals:
        if interval.is_one_way:
            parts = _Parts(source, [position[frame] for frame in interval.frames])
            yield IntervalJob(parts, *_ends(run, interval), interval.cuts)
            continue
        wanted = [frame for frame in interval.frames if frame not in kept]
        read = source.read([position[frame] for frame in wanted])
        kept.update({run.plan.frames[place]: picture for place, picture in read})
        frames = [kept[frame] for frame in interval.frames]
        kept = {interval.frames[-1]: frames[-1]}
        yield IntervalJob(frames, *_ends(run, interval), interval.cuts)


def _ends(run: RunContext, interval: Interval) -> tuple[np.ndarray | None, np.ndarray | None]:
    first, last = interval.keys
    return run.end_picture(first), run.end_picture(last)


class _Parts:
    """Frames of a clip that are read when a part of them is asked for, (H, W, 3) uint8 RGB, and not kept."""

    def __init__(self, source: FrameSource, positions: Sequence[int]) -> None:
        self._source, self._positions = source, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, part: slice) -> list[np.ndarray]:
        return [picture for _, picture in self._source.read(self._positions[part])]


def _is_done(run: RunContext, interval: Interval) -> bool:
    return run.project.has_interval(interval.name, run.interval_fingerprint(interval), interval.inner)


def _require_keys(run: RunContext) -> None:
    absent = [frame for frame in run.plan.keys if run.project.key(frame) is None]
    if absent:
        listed = ", ".join(map(str, absent[:8])) + (" …" if len(absent) > 8 else "")
        raise UserError(
            f"{len(absent)} of {len(run.plan.keys)} key frames are not rendered yet ({listed}).",
            hint="Run the stage keys first, or all.",
        )
    if run.host is not None:
        prints = run.key_fingerprints()
        outdated = sum(not run.is_key_valid(frame, prints[frame]) for frame in run.plan.keys)
        if outdated:
            run.note(f"{counted(outdated, 'key frame')} of other settings: the stage keys makes them anew")


def _say_what_is_replaced(run: RunContext, todo: list[Interval]) -> None:
    replaced = sum(run.project.frame_path(frame).exists() for interval in todo for frame in interval.inner)
    if replaced:
        run.note(f"{counted(replaced, 'propagated frame')} of an earlier or unfinished run made anew")
