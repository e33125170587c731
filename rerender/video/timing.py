"""Exact frame times: repair of broken time stamps, rates, and a time base that holds every time exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import lcm

MAX_TIME_SCALE = 1_000_000
"""Finest clock used for a file, in ticks per second; mp4 keeps it in 32 bits, and players expect it well below."""


def repair_timestamps(raw: Sequence[Fraction | None], gap: Fraction) -> list[Fraction]:
    """Make frame times strictly increasing while changing as few of them as possible.

    The longest strictly increasing subsequence is kept as it is. Each frame outside it (its time is missing, doubled,
    or jumps back or far ahead) is spread evenly between the kept neighbours, or continues at `gap` beyond the ends.

    Args:
        raw: times in seconds in presentation order, None where the file gives none.
        gap: usual distance of two frames in seconds, > 0; used where there is nothing to interpolate between.
    """
    kept = _longest_increasing(raw)
    if not kept:
        return [index * gap for index in range(len(raw))]
    times: list[Fraction] = []
    for index in range(len(raw)):
        position = bisect_left(kept, index)
        before = kept[position - 1] if position else None
        after = kept[position] if position < len(kept) else None
        times.append(_between(raw, before, after, index, gap))
    return times


def _between(
    raw: Sequence[Fraction | None], before: int | None, after: int | None, index: int, gap: Fraction
) -> Fraction:
    """The time of frame `index` between the trusted frames `before` and `after` (after ≥ index > before)."""
    if after is None:
        assert before is not None
        return _known(raw, before) + (index - before) * gap
    if after == index or before is None:
        return _known(raw, after) - (after - index) * gap
    share = Fraction(index - before, after - before)
    return _known(raw, before) + (_known(raw, after) - _known(raw, before)) * share


def _known(raw: Sequence[Fraction | None], index: int) -> Fraction:
    time = raw[index]
    assert time is not None
    return time


def _longest_increasing(values: Sequence[Fraction | None]) -> list[int]:
    """Indices of a longest strictly increasing subsequence, None left out (patience sorting, O(n log n))."""
    tails: list[Fraction] = []
    tail_indices: list[int] = []
    previous: list[int] = [-1] * len(values)
    for index, value in enumerate(values):
        if value is None:
            continue
        position = bisect_left(tails, value)
        tails[position : position + 1] = [value]
        tail_indices[position : position + 1] = [index]
        previous[index] = tail_indices[position - 1] if position else -1
    chain: list[int] = []
    index = tail_indices[-1] if tail_indices else -1
    while index >= 0:
        chain.append(index)
        index = previous[index]
    return chain[::-1]


def median_gap(times: Sequence[Fraction | None], default: Fraction) -> Fraction:
    """The median positive distance of consecutive times, or `default` where there is none."""
    pairs = pairwise(times)
    gaps = sorted(b - a for a, b in pairs if a is not None and b is not None and b > a)
    return gaps[len(gaps) // 2] if gaps else default


def durations_of(times: Sequence[Fraction], end: Fraction) -> list[Fraction]:
    """How long each frame is shown: up to the next one, the last one up to `end`."""
    return [after - before for before, after in zip(times, [*times[1:], end], strict=True)]


def time_base_for(times: Sequence[Fraction]) -> Fraction:
    """The coarsest clock tick in seconds of which every given time is a multiple.

    Times that would need more than `MAX_TIME_SCALE` ticks per second get that clock, and are rounded when written.
    """
    scale = 1
    for time in times:
        scale = lcm(scale, time.denominator)
        if scale > MAX_TIME_SCALE:
            return Fraction(1, MAX_TIME_SCALE)
    return Fraction(1, scale)


def exact_rate(rate: float | Fraction) -> Fraction:
    """The exact frame rate that a rounded figure stands for: 29.97 → 30000/1001, 23.976 → 24000/1001, 12.5 → 25/2."""
    if isinstance(rate, Fraction):
        return rate
    ntsc = Fraction(round(rate) * 1000, 1001)
    is_whole = abs(rate - round(rate)) < 1e-9
    if not is_whole and ntsc and abs(rate - float(ntsc)) < 0.005:
        return ntsc
    return Fraction(rate).limit_denominator(1001)
