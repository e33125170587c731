"""The methods that are compared, as settings of one and the same pipeline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.quality.suite import Case
from rerender.evaluate.motion import Frame
from rerender.host import Host
from rerender.pipeline import prepare
from rerender.project import Project
from rerender.settings import Settings, make_settings
from rerender.stages.keys import render_keys
from rerender.stages.propagation import propagate
from rerender.video.write import open_writer

STRENGTH = 0.35
COMMON: dict[str, Any] = {
    "cfg_scale": 2.5,
    "denoising_strength": STRENGTH,
    "seed": 1,
    "limit_long_side": 0,
    "keep_state": False,
}
"""What the demo checkpoint's card recommends."""


def per_frame() -> dict[str, Any]:
    """Img2img on each frame with one fixed seed and no constraint: what the webui's batch tab does."""
    switches = ("attention", "shape_fusion", "pixel_fusion", "color_adain", "detail_fusion")
    return {"key_interval": 1, **dict.fromkeys(switches, False)}


def two_pass(strength: float = STRENGTH) -> dict[str, Any]:
    """The reference's scheme: each key frame in full twice, one anchor for ever, its default periods.

    The reference counts periods over all steps of the schedule, of which img2img skips the first 1 - strength; ours
    are fractions of the steps that run. Its shape-aware fusion (0 to 0.1) lies in the skipped part, as it does there.
    """
    return {
        "passes": "two_pass",
        "detail_fusion": False,
        "reanchor_below": 0.0,
        "shape_fusion": _running(0.1, strength) > 0,
        "shape_end": _running(0.1, strength),
        "pixel_start": _running(0.5, strength),
        "pixel_end": _running(0.8, strength),
        "color_start": _running(0.8, strength),
    }


def ours() -> dict[str, Any]:
    """The defaults."""
    return {}


METHODS: dict[str, Callable[[], dict[str, Any]]] = {
    "per frame": per_frame,
    "two-pass (reference's scheme)": two_pass,
    "ours": ours,
}


@dataclass(frozen=True)
class Output:
    """What a method made of a clip."""

    source: list[Frame]
    frames: list[Frame]
    keys: list[int]
    shots: int
    seconds_per_key: float
    seconds: float


def render(case: Case, method: str, host: Host) -> Output:
    """Render a clip with one of `METHODS`, through the stages of an ordinary run in a temporary project."""
    with tempfile.TemporaryDirectory() as folder:
        video, selection = _source(case, Path(folder))
        settings = make_settings(
            {**COMMON, "steps": case.steps, "prompt": case.prompt, **selection, **METHODS[method]()}
        )
        return _run(Path(folder) / "project", video, settings, host)


def _source(case: Case, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The clip as a file or folder, and the settings that choose its frames."""
    if not case.is_scene:
        return case.video(), {
            "start_frame": case.start,
            "end_frame": case.start + case.frames,
            "short_side": case.short_side,
        }
    path = folder / "source"
    path.mkdir()
    times = [Fraction(number, 12) for number in range(case.frames)]
    with open_writer(path, width=case.short_side, height=case.short_side, times=times, overwrite=True) as writer:
        for frame, at in zip(case.scene().frames, times, strict=True):
            writer.write(frame, at, Fraction(1, 12))
    return path, {"short_side": case.short_side}


def _run(folder: Path, video: Path, settings: Settings, host: Host) -> Output:
    with Project(folder) as project:
        run = prepare(project, video, settings, host=host)
        started = time.perf_counter()
        render_keys(run, "keys", list(run.plan.shots))
        keys_done = time.perf_counter()
        propagate(run)
        seconds = time.perf_counter() - started
        position = run.plan.position
        with run.source() as source:
            frames = [frame for _, frame in source.read()]
        return Output(
            source=frames,
            frames=list(run.results()),
            keys=[position[key] for key in run.plan.keys],
            shots=len(run.plan.shots),
            seconds_per_key=(keys_done - started) / len(run.plan.keys),
            seconds=seconds,
        )


def _running(share_of_all: float, strength: float) -> float:
    """A share of the whole schedule as a share of the steps that run."""
    skipped = 1.0 - strength
    return round(min(1.0, max(0.0, (share_of_all - skipped) / strength)), 4)
