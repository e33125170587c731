"""A synthesis in horizontal bands, one after the other, for a device whose memory holds no whole one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rerender.arrays import Array, namespace
from rerender.propagate.problem import Guide
from rerender.propagate.synthesis import Synthesis

LEAST_ROWS = 64
_MARGIN = 24  # rows synthesised beyond a band and thrown away, so that neighbours see the same surroundings
_PARTS = ("picture", "nnf", "error")
_REACH = 128  # rows of the source beyond those that the start points at: the search's radius, three levels up


@dataclass(frozen=True)
class _Band:
    """Rows of the target: those to keep, those to synthesise; and rows of the source to search."""

    keep: slice
    target: slice
    source: slice


def synthesize_in_bands(
    synthesize: Callable[..., Synthesis],
    count: int,
    style: Array,
    guides: Sequence[Guide],
    *,
    start: Array | None = None,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
    **options: Any,
) -> Synthesis:
    """Do what `synthesize` does in `count` bands. Without a field to start from, each searches the whole source.

    A band searches the part of the source that its start leads to. Bands meet without a visible seam, but the result
    is not the same to the bit as that of a whole synthesis. A device is waited for, to see where the start leads to.

    Args:
        synthesize: `synthesis.synthesize`, or what does the same.
        count: bands; at most as many as have `LEAST_ROWS` rows each.
        style, guides, start, source_mask, target_mask, options: see `synthesis.synthesize`.
    """
    height = guides[0].target.shape[0]
    count = max(1, min(count, height // LEAST_ROWS))
    parts = []
    for number in range(count):
        rows = slice(height * number // count, height * (number + 1) // count)
        band = _band(rows, height, style.shape[0], start)
        made = synthesize(
            style[band.source],
            [replace(guide, source=guide.source[band.source], target=guide.target[band.target]) for guide in guides],
            start=None if start is None else _lowered(start[band.target], -band.source.start),
            source_mask=None if source_mask is None else source_mask[band.source],
            target_mask=None if target_mask is None else target_mask[band.target],
            **options,
        )
        parts.append(_kept(made, band))
    joined = (namespace(style).concat([getattr(part, name) for part in parts], 0) for name in _PARTS)
    return Synthesis(*joined)


def _band(keep: slice, height: int, source_height: int, start: Array | None) -> _Band:
    target = slice(max(0, keep.start - _MARGIN), min(height, keep.stop + _MARGIN))
    if start is None:
        return _Band(keep, target, slice(0, source_height))
    rows = start[target, :, 1]
    top, bottom = int(rows.min()) - _REACH, int(rows.max()) + 1 + _REACH
    top = max(0, min(top, source_height - 2 * _REACH))
    return _Band(keep, target, slice(top, min(source_height, max(bottom, 2 * _REACH))))


def _kept(made: Synthesis, band: _Band) -> Synthesis:
    rows = slice(band.keep.start - band.target.start, band.keep.stop - band.target.start)
    nnf = _lowered(made.nnf[rows], band.source.start)
    return replace(made, picture=made.picture[rows], nnf=nnf, error=made.error[rows])


def _lowered(field: Array, rows: int) -> Array:
    """A field that points `rows` further down."""
    return namespace(field).concat([field[..., :1], field[..., 1:] + rows], 2)
