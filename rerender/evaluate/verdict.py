"""What the figures of a result mean together: a low warp error is worth nothing if the clip is frozen or blurred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan, sqrt

from rerender.evaluate.figures import ClipFigures

DISQUALIFIED = ("frozen", "blurred", "unchanged")
"""Faults that make the consistency figures meaningless: such a result never ranks."""


@dataclass(frozen=True)
class Finding:
    """A fault that the figures show."""

    fault: str
    text: str


@dataclass(frozen=True)
class Limits:
    """From where on a figure counts as a fault, mostly relative to the source's own figure."""

    motion_kept: float = 0.35
    motion_partly: float = 0.7
    """Below this, texture stays behind: it sticks to the screen or crawls."""
    frozen_share: float = 0.25
    """Share of frames that hardly move although the source does."""
    sharpness: float = 0.6
    """Times the source's, where that is below 1."""
    blur: float = 0.12
    """Above the blur effect of the source."""
    change: float = 4.0
    structure_same: float = 0.97
    unsteady: float = 8.0
    """Levels, root of the warp error above the source's."""
    wandering: float = 16.0
    """Levels, root of the warp error to the first frame above the source's."""
    flicker: float = 2.0
    """Levels above the source's."""
    join_ratio: float = 1.5
    """Times the source's."""
    colour_drift: float = 3.0
    """ΔE*ab above the source's."""
    structure: float = 0.25


def findings(result: ClipFigures, source: ClipFigures, limits: Limits | None = None) -> list[Finding]:
    """Faults of a result, the disqualifying ones first; figures that were not measured find nothing."""
    limits = limits or Limits()
    own, floor = result.summary(), source.summary()
    checks = (
        _frozen(result, own, limits),
        _blurred(own, floor, limits),
        _unchanged(own, limits),
        _sticks(own, limits),
        _unsteady(own, floor, limits),
        _wanders(own, floor, limits),
        _flickers(own, floor, limits),
        _pops(own, floor, limits),
        _drifts(own, floor, limits),
        _lost_structure(own, limits),
    )
    return [finding for finding in checks if finding is not None]


def is_disqualified(found: list[Finding]) -> bool:
    """Whether the consistency figures of this result may be compared with those of others."""
    return any(finding.fault in DISQUALIFIED for finding in found)


def verdict_line(found: list[Finding]) -> str:
    """One sentence for people."""
    if not found:
        return "No fault found: moves with the source, keeps its look and its sharpness, no flicker, pops or drift."
    line = "; ".join(f"{finding.fault} ({finding.text})" for finding in found)
    if is_disqualified(found):
        line += ". Its consistency figures say nothing"
    return f"{line[0].upper()}{line[1:]}."


def best(
    clips: Mapping[str, tuple[ClipFigures, list[Finding]]], limits: Limits | None = None
) -> tuple[str | None, str]:
    """The result with the lowest warp error that is not disqualified and not softer than the others, and why.

    A result whose blur effect is above that of another one by more than the limit cannot win on warp error, since
    blur lowers it; nor does the sharper one win, since noise is sharp too: then nobody does, and the text says so.
    """
    limits = limits or Limits()
    summaries = {name: figures.summary() for name, (figures, found) in clips.items() if not is_disqualified(found)}
    known = {name: own for name, own in summaries.items() if not isnan(own["warp_error"])}
    if not known:
        return None, "no result qualifies: see the verdicts"
    first = min(known, key=lambda name: known[name]["warp_error"])
    sharper = min(known, key=lambda name: known[name]["blur"])
    softness = known[first]["blur"], known[sharper]["blur"]
    if softness[0] > softness[1] + limits.blur:
        return None, f"{first} is steadier, {sharper} sharper (blur effect {softness[0]:.2f} to {softness[1]:.2f})"
    error = known[first]["warp_error"]
    return first, f"{first} has the lowest warp error ({error:.0f}) of those that are neither frozen nor blurred"


def _frozen(result: ClipFigures, own: Mapping[str, float], limits: Limits) -> Finding | None:
    kept = own["motion_kept"]
    moves = [value for value in result.series["motion_kept"] if not isnan(value)]
    still = sum(value < 0.1 for value in moves)
    if kept < limits.motion_kept:
        return Finding("frozen", f"keeps {kept:.0%} of the source's motion")
    if moves and still / len(moves) > limits.frozen_share:
        return Finding("frozen", f"{still} of {len(moves)} frames stand still while the source moves")
    return None


def _blurred(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    # Motion blur and zooms change the source's own sharpness as well: only what goes beyond that is a fault.
    if own["sharpness"] < limits.sharpness * min(1.0, _or(floor["sharpness"], 1.0)):
        return Finding("blurred", f"in-betweens have {own['sharpness']:.0%} of the key frames' detail")
    if own["blur"] > floor["blur"] + limits.blur:
        return Finding("blurred", f"blur effect {own['blur']:.2f}; source {floor['blur']:.2f}")
    return None


def _unchanged(own: Mapping[str, float], limits: Limits) -> Finding | None:
    if own["change"] < limits.change and own["structure"] > limits.structure_same:
        return Finding("unchanged", f"{own['change']:.1f} levels from the source: nothing was restyled")
    return None


def _lost_structure(own: Mapping[str, float], limits: Limits) -> Finding | None:
    if own["structure"] < limits.structure:
        return Finding("loses the layout", f"edges correlate by {own['structure']:.2f} with the source's")
    return None


def _sticks(own: Mapping[str, float], limits: Limits) -> Finding | None:
    if limits.motion_kept <= own["motion_kept"] < limits.motion_partly:
        return Finding("texture does not move along", f"keeps {own['motion_kept']:.0%} of the source's motion")
    return None


def _unsteady(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    excess = _excess(own["warp_error"], floor["warp_error"])
    if excess > limits.unsteady:
        return Finding("changes from frame to frame", f"by {excess:.0f} levels more than the source")
    return None


def _wanders(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    excess = _excess(own["warp_error_first"], floor["warp_error_first"])
    if excess > limits.wandering:
        return Finding("does not keep its first look", f"{excess:.0f} levels more away from it than the source")
    return None


def _excess(error: float, floor: float) -> float:
    """Root of what a squared error has above another one, in levels; nan where it was not measured."""
    return nan if isnan(error) else sqrt(max(0.0, error - _or(floor, 0.0)))


def _flickers(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    if own["flicker"] > floor["flicker"] + limits.flicker:
        return Finding("flickers", f"{own['flicker']:.1f} levels; source {floor['flicker']:.1f}")
    return None


def _pops(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    if own["join_ratio"] > limits.join_ratio * max(1.0, _or(floor["join_ratio"], 1.0)):
        return Finding("pops at key frames", f"warp error at joins is {own['join_ratio']:.2f} times that inside")
    return None


def _drifts(own: Mapping[str, float], floor: Mapping[str, float], limits: Limits) -> Finding | None:
    if own["colour_drift"] > _or(floor["colour_drift"], 0.0) + limits.colour_drift:
        text = f"ΔE {own['colour_drift']:.1f} from the first frame; source {floor['colour_drift']:.1f}"
        return Finding("drifts in colour", text)
    return None


def _or(value: float, other: float) -> float:
    return other if isnan(value) else value
