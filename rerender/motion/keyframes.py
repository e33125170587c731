"""Which frames become key frames: every K, by hand, or by motion; and shots, each with its own keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rerender.errors import UserError
from rerender.motion.cuts import motion_magnitude, scene_cuts

__all__ = [
    "Shot",
    "adaptive_keys",
    "listed_keys",
    "motion_magnitude",
    "scene_cuts",
    "split_shots",
    "uniform_keys",
]

_ENTRY = re.compile(r"(\d+)(?:\s*-\s*(\d+)(?:\s*:\s*(\d+))?)?")


@dataclass(frozen=True)
class Shot:
    """A run of frames without a cut, numbered from 0; both ends belong to the shot and are keys."""

    first: int
    last: int
    keys: tuple[int, ...]


def uniform_keys(count: int, interval: int) -> list[int]:
    """Every ``interval``-th frame of ``count``, from 0, and the last one.

    Raises UserError where ``count`` or ``interval`` is below 1.
    """
    _check_count(count)
    if interval < 1:
        raise UserError(f"Key frame interval {interval} is below 1.", hint="1 makes every frame a key frame.")
    return sorted({*range(0, count, interval), count - 1})


def listed_keys(listed: str | Iterable[int], count: int) -> list[int]:
    """Key frames by number, with the first and the last frame added.

    listed: numbers, or a text such as "0, 12, 40-60:5", where 40-60:5 means 40, 45 … 60 and 40-60 every one.
    Raises UserError naming the entry that is no frame number of the clip.
    """
    _check_count(count)
    numbers = _parse(listed, count) if isinstance(listed, str) else list(listed)
    for number in numbers:
        _check_frame(number, count)
    return sorted({0, count - 1, *numbers})


def adaptive_keys(motion_per_frame: Sequence[float], min_gap: int, max_gap: int, threshold: float) -> list[int]:
    """Greedy choice by accumulated motion: a new key where it reaches ``threshold`` since the last one.

    motion_per_frame: entry i is the motion from frame i - 1 to i (entry 0 is not used), in the unit of
    ``threshold``; its length is the number of frames. Gaps are at least ``min_gap`` and at most ``max_gap``
    frames; only the end of the clip may force a shorter one (the last frame is always a key).
    Raises UserError where the bounds contradict each other or the threshold is not positive.
    """
    count = len(motion_per_frame)
    _check_count(count)
    if not 1 <= min_gap <= max_gap:
        raise UserError(
            f"Key frame gaps {min_gap} to {max_gap} are not possible.",
            hint="The smallest gap must be at least 1 and at most the largest.",
        )
    if not threshold > 0:
        raise UserError(f"Motion threshold {threshold} is not above 0.")
    keys, moved = [0], 0.0
    for frame in range(1, count):
        moved += motion_per_frame[frame]
        gap = frame - keys[-1]
        if gap >= max_gap or (gap >= min_gap and moved >= threshold):
            keys.append(frame)
            moved = 0.0
    return _close(keys, count - 1, min_gap, max_gap)


def split_shots(keys: Iterable[int], cuts: Iterable[int], count: int) -> list[Shot]:
    """Shots of a clip of ``count`` frames, in order; their first and last frames become keys.

    cuts: first frames of new shots (0 and repeats are ignored).
    Raises UserError where a cut or a key is not in the clip.
    """
    _check_count(count)
    all_keys = listed_keys(keys, count)
    starts = sorted({0, *cuts})
    for start in starts:
        _check_frame(start, count, "Scene cut")
    shots = []
    for first, following in zip(starts, [*starts[1:], count], strict=True):
        last = following - 1
        inner = {key for key in all_keys if first <= key <= last}
        shots.append(Shot(first, last, tuple(sorted(inner | {first, last}))))
    return shots


def _close(keys: list[int], last: int, min_gap: int, max_gap: int) -> list[int]:
    """Add the last frame; a key that stands too near to it moves back, or goes where the gaps allow it."""
    if keys[-1] == last:
        return keys
    if last - keys[-1] < min_gap and len(keys) > 1:
        span = last - keys[-2]
        if span >= 2 * min_gap:
            keys[-1] = last - min_gap
        elif span <= max_gap:
            keys.pop()
    return [*keys, last]


def _parse(text: str, count: int) -> list[int]:
    numbers: list[int] = []
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise UserError(
                f"Key frames: {entry!r} is not understood.", hint='Write frame numbers like "0, 12, 40-60:5".'
            )
        first, last, step = (int(group) if group else None for group in match.groups())
        assert first is not None
        if last is not None and (last < first or step == 0):
            raise UserError(f"Key frames: the range {entry!r} is empty.", hint="Write first-last or first-last:step.")
        _check_frame(first if last is None else last, count)
        numbers.extend(range(first, (first if last is None else last) + 1, step or 1))
    return numbers


def _check_count(count: int) -> None:
    if count < 1:
        raise UserError(f"A clip of {count} frames has no key frames.")


def _check_frame(number: int, count: int, what: str = "Key frame") -> None:
    if not 0 <= number < count:
        raise UserError(f"{what} {number} is not in the clip.", hint=f"The clip has frames 0 to {count - 1}.")
