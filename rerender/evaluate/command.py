"""`python -m rerender evaluate`: a source, a result and its rivals in; figures, JSON and a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from rerender.evaluate.figures import METRICS, ClipFigures, join_pairs, show
from rerender.evaluate.frames import Clip, ClipLike, Masks, check_lengths, open_clip, read_ahead
from rerender.evaluate.meter import ClipMeter
from rerender.evaluate.motion import EstimatedMotion, MotionSource, SceneMotion
from rerender.evaluate.scenes import Scene
from rerender.evaluate.semantic import INSTALL_HINT, SemanticFeatures, load_semantic
from rerender.evaluate.verdict import Finding, best, findings, verdict_line
from rerender.evaluate.walk import Walk
from rerender.files import write_json
from rerender.motion.flow import flow_estimator
from rerender.motion.keyframes import listed_keys, scene_cuts

Progress = Callable[[int, int], None]
"""(frames done, frames in all)"""

_DIGITS = 6  # significant digits in the JSON: below are differences between machines


@dataclass
class Evaluation:
    """What was measured, on which clips, and along which motion."""

    frames: int
    size: tuple[int, int]
    rate: float
    keys: list[int]
    shot_starts: list[int]
    motion: str
    """"exact", or the name of the flow estimator."""
    source: ClipFigures
    results: list[ClipFigures]
    notes: list[str] = field(default_factory=list)

    def findings(self, result: ClipFigures) -> list[Finding]:
        """Faults of one of the results."""
        return findings(result, self.source)

    def verdict(self, result: ClipFigures) -> str:
        """One sentence about one of the results."""
        return verdict_line(self.findings(result))

    def best(self) -> tuple[str | None, str]:
        """Which result wins, None if undecided, and why (see `verdict.best`)."""
        return best({result.name: (result, self.findings(result)) for result in self.results})

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for JSON: figures to six significant digits, null where nothing was measured."""
        return {
            "schema": 1,
            "frames": self.frames,
            "width": self.size[1],
            "height": self.size[0],
            "frame_rate": _rounded(self.rate),
            "key_frames": self.keys,
            "shot_starts": self.shot_starts,
            "motion": self.motion,
            "notes": self.notes,
            "metrics": {
                name: {"unit": m.unit, "better": m.better, "meaning": m.meaning, "read_with": list(m.read_with)}
                for name, m in METRICS.items()
            },
            "source": _clip_json(self.source),
            "results": [_clip_json(r) | {"verdict": self.verdict(r)} for r in self.results],
            "best": self.best()[0],
            "best_why": self.best()[1],
        }

    def table(self) -> str:
        """The figures as text, one row per metric, the source's own (the floor) beside them."""
        clips = [self.source, *self.results]
        heads = ["", "unit", "better", "source", *(result.name for result in self.results)]
        rows = [heads]
        summaries = [clip.summary() for clip in clips]
        for name, metric in METRICS.items():
            rows.append([metric.label, metric.unit, metric.better, *(show(summary[name]) for summary in summaries)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{result.name}: {self.verdict(result)}" for result in self.results]
        if len(self.results) > 1:
            lines.append(f"best: {self.best()[1]}")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def evaluate(
    source: ClipLike,
    result: ClipLike,
    *,
    against: Sequence[ClipLike] = (),
    names: Sequence[str] = (),
    keys: str | Iterable[int] | None = None,
    mask: ClipLike | None = None,
    start: int = 0,
    flow: str = "dis",
    semantic: bool = True,
    json_path: Path | str | None = None,
    report_dir: Path | str | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure a result, and others of the same source, frame by frame. Memory does not grow with the clip's length.

    Args:
        source: the clip that was rendered: a path, a scene (its exact motion is used), or frames. Files are resized
            to the result's size.
        result: the clip to judge.
        against: other results of the same source, of the same size and length.
        names: what to call the results, `result` first; by default their file names.
        keys: key frames of the result, as numbers or as text such as "0, 10, 20-100:10"; by default the first frame
            of each shot.
        mask: a picture or a clip; only white areas count.
        start: first frame of the source that the result shows.
        flow: estimator for sources without exact motion.
        semantic: measure semantic consistency too, where its network is installed.
        json_path: where to write the figures.
        report_dir: where to write `report.html`.
        on_progress: called after each frame.

    Raises:
        UserError: unreadable clips, or clips that do not fit together.
    """
    results = _open_results([result, *against], names)
    clip = open_clip(source, "source", results[0].size, start)
    count, note = check_lengths(clip, results)
    shot_starts = _shot_starts(source, clip, count)
    key_frames = listed_keys(keys, count) if keys is not None else shot_starts
    network = load_semantic() if semantic else None
    motion: MotionSource = SceneMotion(source) if isinstance(source, Scene) else EstimatedMotion(flow_estimator(flow))
    masks = Masks(mask, clip.size, count, start)
    walk = Walk(clip, masks, motion, flow_estimator("dis_fast"), count, key_frames, shot_starts)
    with ExitStack() as opened:
        for each in (clip, *results):
            opened.callback(each.close)
        measured = _measure(walk, results, network, on_progress)
        evaluation = Evaluation(
            frames=count,
            size=clip.size,
            rate=clip.rate,
            keys=key_frames,
            shot_starts=shot_starts,
            motion="exact" if isinstance(source, Scene) else flow,
            source=measured[0],
            results=measured[1:],
            notes=_notes(note, keys is None, semantic and network is None),
        )
        if json_path is not None:
            write_json(Path(json_path), evaluation.as_json())
        if report_dir is not None:
            from rerender.evaluate.report import write_report

            write_report(evaluation, clip, results, motion, Path(report_dir))
    return evaluation


def _measure(
    walk: Walk, results: Sequence[Clip], network: SemanticFeatures | None, on_progress: Progress | None
) -> list[ClipFigures]:
    """Figures of the source, then of each result."""
    meters = [ClipMeter(name, walk.quick_flow, network) for name in ("source", *(clip.name for clip in results))]
    joins = join_pairs(walk.keys, walk.frames, walk.shot_starts)
    for step in walk.steps():
        meters[0].add(step, step.source)
        for meter, clip in zip(meters[1:], results, strict=True):
            meter.add(step, clip[step.number])
        if on_progress:
            on_progress(step.number + 1, walk.frames)
    for meter in meters:
        meter.figures.joins = joins
    return [meter.figures for meter in meters]


def _open_results(results: Sequence[ClipLike], names: Sequence[str]) -> list[Clip]:
    if len(names) > len(results):
        raise UserError(
            f"{len(names)} names are given for {len(results)} results.", hint="Name each result once, in their order."
        )
    clips: list[Clip] = []
    for index, result in enumerate(results):
        name = names[index] if index < len(names) else ""
        clip = open_clip(result, name or f"result {index + 1}")
        clip.name = name or clip.name
        if clips and clip.size != clips[0].size:
            size, first = clip.size, clips[0].size
            raise UserError(
                f"{clip.name} has {size[1]}x{size[0]} pixels, {clips[0].name} has {first[1]}x{first[0]}.",
                hint="Results are compared pixel by pixel: render or scale them to one size.",
            )
        clips.append(clip)
    _make_unique(clips)
    return clips


def _make_unique(clips: Sequence[Clip]) -> None:
    """Files of one name in several folders get a number."""
    for index, clip in enumerate(clips):
        if clip.name in {other.name for other in clips[:index]} | {"source"}:
            clip.name = f"{clip.name} ({index + 1})"


def _shot_starts(source: ClipLike, clip: Clip, count: int) -> list[int]:
    cuts = source.cuts if isinstance(source, Scene) else scene_cuts(read_ahead(clip, count))
    return sorted({0, *(cut for cut in cuts if cut < count)})


def _notes(length: str, keys_unknown: bool, semantic_missing: bool) -> list[str]:
    notes = [length] if length else []
    if keys_unknown:
        notes.append("no key frames given: sharpness is relative to the first frame of each shot, joins not measured")
    if semantic_missing:
        notes.append(f"semantic consistency not measured; to install its network: {INSTALL_HINT}")
    return notes


def _clip_json(clip: ClipFigures) -> dict[str, Any]:
    return {
        "name": clip.name,
        "figures": {name: _rounded(value) for name, value in clip.summary().items()},
        "series": {name: [_rounded(value) for value in values] for name, values in clip.series.items()},
    }


def _rounded(value: float) -> float | None:
    return None if isnan(value) else float(f"{value:.{_DIGITS}g}")
