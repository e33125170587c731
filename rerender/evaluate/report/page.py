"""Puts the report together: one HTML file with style, plots, pictures and video inside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from rerender.evaluate.figures import METRICS, Metric, show
from rerender.evaluate.frames import Clip
from rerender.evaluate.motion import Frame, MotionSource
from rerender.evaluate.report import gallery
from rerender.evaluate.report.pictures import ERROR_RANGE, embed, fit
from rerender.evaluate.report.plots import line_plot, swatch
from rerender.evaluate.verdict import is_disqualified
from rerender.files import replacing
from rerender.motion.pictures import wheel_picture

if TYPE_CHECKING:
    from rerender.evaluate.command import Evaluation

_ARROWS = {"lower": "↓ lower", "higher": "↑ higher", "near 1": "→ near 1"}
_PICTURE = 380  # width of a picture in pixels


def write_report(
    evaluation: Evaluation, source: Clip, results: Sequence[Clip], motion: MotionSource, folder: Path
) -> Path:
    """Write `report.html` into the folder and return its path; source and results as they were measured."""
    clips = [source, *results]
    sections = [
        _head(evaluation, source),
        _verdicts(evaluation),
        _figures_table(evaluation),
        _video(evaluation, clips),
        _strips(evaluation, clips),
        _plots(evaluation),
        _worst(evaluation, clips, motion),
        _motion(evaluation, source, motion),
        _slices(evaluation, clips),
        _reading(),
    ]
    style = files("rerender.evaluate.report").joinpath("style.css").read_text(encoding="utf-8")
    title = f"Consistency of {', '.join(clip.name for clip in results)}"
    document = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(document, encoding="utf-8")
    return path


def _head(evaluation: Evaluation, source: Clip) -> str:
    height, width = evaluation.size
    motion = "exact motion of the scene" if evaluation.motion == "exact" else f"motion estimated ({evaluation.motion})"
    shots = len(evaluation.shot_starts)
    named = "" if source.name == "source" else f"Source {source.name}; "  # frames in memory have no name
    facts = (
        f"{named}{evaluation.frames} frames of {width}×{height} at {evaluation.rate:g} a second; "
        f"{shots} shot{'s' if shots > 1 else ''}; {_some(evaluation.keys)}; {motion}."
    )
    names = ", ".join(result.name for result in evaluation.results)
    notes = "".join(f'<p class="note">Note: {escape(note)}.</p>' for note in evaluation.notes)
    return f'<h1>Consistency of {escape(names)}</h1><p class="facts">{escape(facts)}</p>{notes}'


def _some(keys: Sequence[int]) -> str:
    shown = ", ".join(str(key) for key in keys[:12])
    return f"key frames {shown}{' …' if len(keys) > 12 else ''}"


def _verdicts(evaluation: Evaluation) -> str:
    boxes = []
    for result in evaluation.results:
        found = evaluation.findings(result)
        bad = " bad" if found else ""
        boxes.append(
            f'<div class="verdict{bad}"><b>{escape(result.name)}.</b> {escape(evaluation.verdict(result))}</div>'
        )
    if len(evaluation.results) > 1:
        boxes.append(f"<p><b>Best:</b> {escape(evaluation.best()[1])}.</p>")
    return "".join(boxes)


def _figures_table(evaluation: Evaluation) -> str:
    clips = [evaluation.source, *evaluation.results]
    summaries = [clip.summary() for clip in clips]
    heads = "".join(f'<th class="n">{escape(result.name)}</th>' for result in evaluation.results)
    ranked = [not is_disqualified(evaluation.findings(result)) for result in evaluation.results]
    rows = []
    for name, metric in METRICS.items():
        values = [summary[name] for summary in summaries]
        best = _best_index(metric, values[1:], ranked)
        cells = "".join(
            f'<td class="n{" best" if index == best else ""}">{show(value)}</td>'
            for index, value in enumerate(values[1:])
        )
        rows.append(
            f"<tr><td>{escape(metric.label)} <span class=unit>{escape(metric.unit)}</span>"
            f'<div class="meaning">{escape(metric.meaning)}</div></td>'
            f'<td class="unit">{_ARROWS.get(metric.better, "")}</td>'
            f'<td class="n floor">{show(values[0])}</td>{cells}</tr>'
        )
    return (
        '<h2>Figures</h2><div class="scroll"><table><thead><tr><th>Metric</th><th>Better</th>'
        f'<th class="n">Source (floor)</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="note">Means over the frames. Bold: best of the results that are neither frozen nor blurred. '
        "The source's own figures are what a perfect result of the same sharpness would have.</p>"
    )


def _best_index(metric: Metric, values: Sequence[float], ranked: Sequence[bool]) -> int | None:
    """Which of several results is best by one metric; None for a single one, and for metrics of no merit."""
    costs = {i: metric.cost(value) for i, value in enumerate(values) if ranked[i] and not isnan(value)}
    if len(values) < 2 or not costs or metric.better == "neither":
        return None
    return min(costs, key=lambda i: costs[i])


def _video(evaluation: Evaluation, clips: Sequence[Clip]) -> str:
    uri = gallery.video_uri(clips, evaluation.frames, evaluation.rate)
    note = f"First {gallery.VIDEO_FRAMES} frames." if evaluation.frames > gallery.VIDEO_FRAMES else ""
    return (
        f'<section class="moving"><h2>Side by side</h2>{_names(clip.name for clip in clips)}'
        f'<video controls loop muted autoplay playsinline src="{uri}"></video><p class="note">{note}</p></section>'
    )


def _strips(evaluation: Evaluation, clips: Sequence[Clip]) -> str:
    numbers = gallery.strip_numbers(evaluation.frames)
    rows = []
    for clip in clips:
        cells = [_figure(clip[number], f"frame {number}", 280) for number in numbers]
        rows.append(f"<h3>{escape(clip.name)}</h3>{_grid(cells, len(numbers))}")
    return f"<h2>Frames</h2>{''.join(rows)}"


def _plots(evaluation: Evaluation) -> str:
    clips = [evaluation.source, *evaluation.results]
    legend = "".join(f"<span>{swatch(i)}{escape(clip.name)}</span>" for i, clip in enumerate(clips))
    figures = []
    for name, metric in METRICS.items():
        if metric.of_joins:
            continue
        lines = [(clip.name, clip.series[name]) for clip in clips]
        plot = line_plot(metric.label, lines, evaluation.keys, evaluation.shot_starts)
        if plot:
            unit = f'<span class="unit">{escape(metric.unit)} {_ARROWS.get(metric.better, "")}</span>'
            figures.append(f"<figure><h3>{escape(metric.label)} {unit}</h3>{plot}</figure>")
    return (
        f'<h2>Over time</h2><div class="legend">{legend}</div><div class="plots">{"".join(figures)}</div>'
        '<p class="note">Ticks at the bottom are key frames; dashed verticals are cuts.</p>'
    )


def _worst(evaluation: Evaluation, clips: Sequence[Clip], motion: MotionSource) -> str:
    parts = []
    for clip, figures in zip(clips[1:], evaluation.results, strict=True):
        parts.append(f"<h3>{escape(clip.name)}</h3>")
        for number in gallery.worst_numbers(figures, evaluation.source):
            worst = gallery.worst_frame(clip, clips[0], motion, figures, number)
            cells = [
                _figure(worst.previous, f"frame {number - 1}"),
                _figure(worst.frame, f"frame {number}: warp error {show(worst.error)}"),
                _figure(worst.difference, "change along the motion"),
            ]
            parts.append(_grid(cells, 3))
    scale = f'<span class="scale"></span> 0 to {ERROR_RANGE:g} levels; grey: not seen before'
    return (
        "<h2>Worst frames</h2><p>Frames whose warp error is furthest above the source's.</p>"
        f'<p class="note">{scale}</p>{"".join(parts)}'
    )


def _motion(evaluation: Evaluation, source: Clip, motion: MotionSource) -> str:
    inner = [n for n in gallery.strip_numbers(evaluation.frames, 5)[1:4] if n not in evaluation.shot_starts]
    rows = []
    for number in inner:
        view = gallery.motion_view(source, motion, number)
        cells = [
            _figure(view.frame, f"frame {number}"),
            _figure(view.flow, f"flow from frame {number - 1}; full colour: {view.greatest:.1f} px"),
            _figure(view.hidden, f"orange: not seen in frame {number - 1}"),
        ]
        rows.append(_grid(cells, 3))
    return (
        "<h2>Motion and hidden areas</h2>"
        f'<div class="key-to-colours"><img class="wheel" alt="colour wheel" src="{embed(wheel_picture())}">'
        "<p>Colour is the direction of the motion (Middlebury code): the colours of the wheel's right side move to the "
        f"right. White does not move.</p></div>{''.join(rows)}"
    )


def _slices(evaluation: Evaluation, clips: Sequence[Clip]) -> str:
    row, pictures = gallery.time_slices(clips, evaluation.frames)
    cells = [_figure(picture, clip.name, 640) for picture, clip in zip(pictures, clips, strict=True)]
    return (
        f"<h2>Slices through time</h2><p>Row {row} of each frame, time downwards. Smooth streaks are steady motion, "
        f'horizontal bands are flicker or pops, vertical streaks stand still.</p><div class="slice">'
        f"{_grid(cells, min(3, len(cells)))}</div>"
    )


def _reading() -> str:
    pairs = "".join(f"<li>{escape(text)}</li>" for text in HOW_TO_READ)
    return f"<h2>Figures that must be read together</h2><ul>{pairs}</ul>"


HOW_TO_READ = (
    "Warp error with sharpness and blur effect: blur lowers the warp error. A blurred result does not win.",
    "Flicker and SSIM along the flow with motion kept: a frozen result does not flicker where the source stands still.",
    "Warp error with warp error to the first frame: neighbours can agree while the clip drifts away.",
    "Sharpness relative to the key frames with the blur effect: if the key frames are soft themselves, the ratio is 1.",
    "Structure kept and semantic similarity with the change from the source: the source itself has the best of both.",
    "Warp error at joins ÷ inside with the warp error: a ratio of 1 is no merit if both are high.",
    "Every figure with that of the source: noise, lighting and errors of the estimated motion are in it too.",
)


def _figure(picture: Frame, caption: str, width: int = _PICTURE) -> str:
    uri = embed(fit(picture, width))
    return f'<figure><img alt="{escape(caption)}" src="{uri}"><figcaption>{escape(caption)}</figcaption></figure>'


def _grid(cells: Sequence[str], columns: int) -> str:
    style = f"grid-template-columns: repeat({columns}, minmax(0, 1fr))"
    return f'<div class="pictures" style="{style}">{"".join(cells)}</div>'


def _names(names: Iterable[str]) -> str:
    cells = [f"<span>{escape(name)}</span>" for name in names]
    style = f"grid-template-columns: repeat({len(cells)}, minmax(0, 1fr))"
    return f'<div class="names" style="{style}">{"".join(cells)}</div>'
