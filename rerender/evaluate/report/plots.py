"""Plots over time as SVG text. Colours are CSS variables, so that one plot fits light pages, dark pages and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, isnan, log10

WIDTH, HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 2")

Line = tuple[str, Sequence[float]]
"""Name and one value per frame; nan leaves a gap."""


def line_plot(title: str, lines: Sequence[Line], keys: Sequence[int] = (), starts: Sequence[int] = ()) -> str:
    """One plot: the first line is the source (grey), the others are the results in their colours and dashes.

    keys: frames marked by ticks at the bottom; starts: frames at which shots begin, marked by vertical lines.
    """
    frames = max(len(values) for _, values in lines)
    known = [value for _, values in lines for value in values if not isnan(value)]
    if not known:
        return ""
    ticks = nice_ticks(min(0.0, *known) if min(known) < 0.5 * max(known) else min(known), max(known))
    axes = _Axes(frames, ticks[0], ticks[-1])
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over time">']
    parts += [_rule(axes, tick) for tick in ticks]
    parts += [_shot(axes, start) for start in starts if start]
    parts += [_key(axes, key) for key in keys] if len(keys) < frames else []
    parts += [_frame_label(axes, frame) for frame in _frame_ticks(frames)]
    parts += [_path(axes, index, values) for index, (_, values) in enumerate(lines)]
    return "".join([*parts, "</svg>"])


def swatch(index: int) -> str:
    """A short piece of line `index`, for legends."""
    return (
        '<svg class="swatch" viewBox="0 0 34 10" aria-hidden="true">'
        f'<path class="line c{_colour(index)}" stroke-dasharray="{_dash(index)}" d="M1 5H33"/></svg>'
    )


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / about
    unit = 10.0 ** floor(log10(raw))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


class _Axes:
    """From frame numbers and values to the plot's own units."""

    def __init__(self, frames: int, low: float, high: float) -> None:
        self.frames, self.low, self.high = frames, low, high

    def x(self, frame: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * frame / max(1, self.frames - 1)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - self.low) / (self.high - self.low)


def _rule(axes: _Axes, value: float) -> str:
    y = axes.y(value)
    return (
        f'<path class="rule" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _shot(axes: _Axes, frame: int) -> str:
    return f'<path class="shot" d="M{axes.x(frame - 0.5):.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'


def _key(axes: _Axes, frame: int) -> str:
    return f'<path class="key" d="M{axes.x(frame):.1f} {HEIGHT - _BOTTOM}v-7"/>'


def _frame_label(axes: _Axes, frame: int) -> str:
    return f'<text class="tick" x="{axes.x(frame):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{frame}</text>'


def _frame_ticks(frames: int) -> list[int]:
    """About six frame numbers at round distances, and the last one unless it would crowd."""
    step = max(1, int(nice_ticks(0.0, float(frames - 1), 6)[1]))
    ticks = list(range(0, frames, step))
    return ticks if frames - 1 - ticks[-1] < 0.5 * step else [*ticks, frames - 1]


def _path(axes: _Axes, index: int, values: Sequence[float]) -> str:
    """A line with gaps; a value between two gaps is drawn as a dot."""
    pieces, drawing = [], False
    for frame, value in enumerate(values):
        if isnan(value):
            drawing = False
            continue
        point = f"{axes.x(frame):.1f} {axes.y(value):.1f}"
        pieces.append(f"{'L' if drawing else 'M'}{point}" + ("" if drawing else "h.01"))
        drawing = True
    return f'<path class="line c{_colour(index)}" stroke-dasharray="{_dash(index)}" d="{"".join(pieces)}"/>'


def _colour(index: int) -> int:
    return 0 if index == 0 else (index - 1) % 6 + 1


def _dash(index: int) -> str:
    return "" if index == 0 else _DASHES[(index - 1) % len(_DASHES)]
