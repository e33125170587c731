"""Which frames of a clip are used, and when each of them is shown in the output."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rerender.errors import UserError
from rerender.video.timing import durations_of, exact_rate, median_gap


@dataclass(frozen=True)
class Selection:
    """The frames of a run. Position k of the output shows frame `indices[k]` of the source.

    Attributes:
        indices: strictly increasing frame numbers of the source.
        times: when each frame is shown, seconds from the start of the output; strictly increasing, the first is 0.
        durations: how long each frame is shown, seconds, > 0.
        start: the source's time at which the output begins, seconds; audio is cut from here …
        end: … up to here.
    """

    indices: tuple[int, ...]
    times: tuple[Fraction, ...]
    durations: tuple[Fraction, ...]
    start: Fraction
    end: Fraction

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def length(self) -> Fraction:
        """When the last frame ends, seconds from the start of the output."""
        return self.end - self.start

    @property
    def rate(self) -> Fraction:
        """Average number of frames per second."""
        return len(self.indices) / self.length


def select_frames(
    timestamps: Sequence[Fraction],
    *,
    start: int = 0,
    end: int | None = None,
    frame_rate: float | Fraction = 0,
    end_time: Fraction | None = None,
) -> Selection:
    """Choose frames [start, end) of a clip, thinned out to `frame_rate`.

    A rate of 0, or one that is not below the average rate of the range, keeps every frame at the source's own times.
    A lower rate shows, at each tick k / frame_rate, the source frame nearest in time (the earlier one of two equally
    near). No frame is repeated: a source frame that is nearest to several ticks appears once, at the first of them,
    and stays until the next frame's tick.

    Args:
        timestamps: times of all frames in seconds, strictly increasing.
        start: first frame that is used.
        end: frame at which to stop, not included; None or 0 is the end of the clip.
        frame_rate: frames per second, ≥ 0. Rounded NTSC rates mean the exact ones (29.97 is 30000/1001).
        end_time: when the last frame of the clip ends, in seconds; by default it lasts as long as the median frame.

    Raises:
        UserError: the range is empty or leaves the clip, or the rate is negative.
    """
    stop = _check_range(len(timestamps), start, end or None)
    if frame_rate < 0:
        raise UserError(f"The frame rate {float(frame_rate):g} is negative.", hint="0 keeps the source's own times.")
    if stop < len(timestamps):
        until = timestamps[stop]
    else:
        until = end_time or timestamps[-1] + median_gap(timestamps, Fraction(1, 25))
    chosen = timestamps[start:stop]
    rate = exact_rate(frame_rate)
    origin = chosen[0]
    if rate == 0 or rate >= len(chosen) / (until - origin):
        offsets, times = list(range(len(chosen))), [time - origin for time in chosen]
    else:
        offsets, times = _thin_out(chosen, until, rate)
    return Selection(
        indices=tuple(start + offset for offset in offsets),
        times=tuple(times),
        durations=tuple(durations_of(times, until - origin)),
        start=origin,
        end=until,
    )


def _check_range(count: int, start: int, end: int | None) -> int:
    """The frame to stop at; refuses ranges that are empty or leave the clip."""
    hint = f"The clip has frames 0 to {count - 1}; an end of {count} (or 0) is the end of the clip."
    if count == 0:
        raise UserError("The clip has no frames.")
    if not 0 <= start < count:
        raise UserError(f"The range starts at frame {start}, outside the clip.", hint=hint)
    if end is None:
        return count
    if end > count:
        raise UserError(f"The range ends at frame {end}, behind the clip's {count} frames.", hint=hint)
    if end <= start:
        raise UserError(f"The range from frame {start} to {end} is empty.", hint=hint)
    return end


def _thin_out(chosen: Sequence[Fraction], until: Fraction, rate: Fraction) -> tuple[list[int], list[Fraction]]:
    """Nearest source frame for each tick of a constant rate, each frame once."""
    offsets: list[int] = []
    times: list[Fraction] = []
    tick = 0
    while (time := tick / rate) < until - chosen[0]:
        nearest = _nearest(chosen, chosen[0] + time)
        if not offsets or nearest > offsets[-1]:
            offsets.append(nearest)
            times.append(time)
        tick += 1
    return offsets, times


def _nearest(sorted_times: Sequence[Fraction], time: Fraction) -> int:
    """Index of the time nearest to `time`, the earlier of two equally near."""
    after = bisect_left(sorted_times, time)
    if after == 0:
        return 0
    if after == len(sorted_times):
        return after - 1
    return after if sorted_times[after] - time < time - sorted_times[after - 1] else after - 1
