"""What a run will do, decided before anything is rendered: frames, size, shots and key frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rerender.errors import Interrupted, UserError
from rerender.files import digest
from rerender.motion.keyframes import Shot, adaptive_keys, listed_keys, split_shots, uniform_keys
from rerender.settings import Settings
from rerender.video.geometry import Geometry, plan_geometry
from rerender.video.mask import Mask, plan_mask
from rerender.video.probe import VideoInfo, times_of_pictures
from rerender.video.read import FrameSource
from rerender.video.select import Selection, select_frames

LEAST_SIDE = 16
"""Pixels: the coarsest picture that patches of 7 are matched in has 15."""


@dataclass(frozen=True)
class Interval:
    """A stretch of frames to propagate, by frame number in the source, with the key frames at its ends.

    Attributes:
        frames: all frames, the key frames at the ends included.
        first_key: the first frame is a key frame (not so before the first key frame of the clip).
        last_key: the last frame is a key frame (not so behind the last key frame of the clip).
        cuts: positions in `frames` at which a new shot begins.
    """

    frames: tuple[int, ...]
    first_key: bool = True
    last_key: bool = True
    cuts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Such as "0-10"."""
        return f"{self.frames[0]}-{self.frames[-1]}"

    @property
    def is_one_way(self) -> bool:
        """Whether it is propagated from one key frame."""
        return not (self.first_key and self.last_key)

    @property
    def inner(self) -> tuple[int, ...]:
        """The frames that are propagated."""
        return self.frames[self.first_key : len(self.frames) - self.last_key]

    @property
    def keys(self) -> tuple[int | None, int | None]:
        """The key frames at the ends."""
        return (self.frames[0] if self.first_key else None, self.frames[-1] if self.last_key else None)


@dataclass(frozen=True)
class Plan:
    """Which frames are used and which are key frames. Frames are named by their number in the source, from 0.

    Attributes:
        selection: source frame numbers and output timestamps.
        geometry: crop and working size.
        shots: key frames by shot; a shot's first key frame is its anchor.
        cuts: frames that begin a new shot.
        mask: where the style goes; None is everywhere.
    """

    info: VideoInfo
    source_hash: str
    selection: Selection
    geometry: Geometry
    shots: tuple[tuple[int, ...], ...]
    cuts: tuple[int, ...] = ()
    mask: Mask | None = None

    @property
    def frames(self) -> tuple[int, ...]:
        """All frames of the output."""
        return self.selection.indices

    @property
    def keys(self) -> tuple[int, ...]:
        """All key frames."""
        return tuple(key for shot in self.shots for key in shot)

    @property
    def position(self) -> dict[int, int]:
        """Where each frame stands in the output."""
        return {frame: number for number, frame in enumerate(self.frames)}

    @property
    def intervals(self) -> list[Interval]:
        """The stretches before, between and behind key frames that have frames to propagate."""
        keys, position = self.keys, self.position
        places = [position[key] for key in keys]
        stretches = [self._interval(a, b) for a, b in pairwise(places)]
        if places[0] > 0:
            stretches.insert(0, self._interval(0, places[0], first_key=False))
        if places[-1] < len(self.frames) - 1:
            stretches.append(self._interval(places[-1], len(self.frames) - 1, last_key=False))
        return [stretch for stretch in stretches if stretch.inner]

    def _interval(self, first: int, last: int, *, first_key: bool = True, last_key: bool = True) -> Interval:
        frames = self.frames[first : last + 1]
        cuts = tuple(place for place, frame in enumerate(frames) if frame in set(self.cuts) and place > 0)
        return Interval(frames, first_key, last_key, cuts)

    def describe(self) -> dict[str, Any]:
        """What the manifest notes about the source."""
        mask = {"path": str(self.mask.info.path.absolute()), "sha256": self.mask.sha256} if self.mask else {}
        return {
            "path": str(self.info.path.absolute()),
            "sha256": self.source_hash,
            "frames": self.info.frames,
            "frame_rate": str(self.info.rate),
            "width": self.info.width,
            "height": self.info.height,
            "mask": mask,
        }


def plan_run(
    info: VideoInfo,
    source_hash: str,
    settings: Settings,
    *,
    analysis: dict[str, Any],
    cancelled: Callable[[], bool],
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Plan, dict[str, Any]]:
    """Decide frames, size, shots and key frames.

    Args:
        analysis: result of an earlier call for the same project, or {}.
        note: told when a pass over the whole clip begins, and of listed key frames that are left out.

    Returns:
        The plan, and the analysis to store for the next call ({} where no pass over the clip was needed).

    Raises:
        UserError: a range, crop, mask or key frame that does not fit the clip, or a guard limit.
        Interrupted: `cancelled` said yes.
    """
    selection = choose_frames(info, settings)
    crop = (settings.crop_left, settings.crop_top, settings.crop_right, settings.crop_bottom)
    geometry = plan_geometry(info.width, info.height, crop, settings.short_side)
    check_size(geometry, settings, "short_side")
    mask = plan_mask(settings, info, selection)
    analysis = analyse(
        info,
        source_hash,
        selection,
        geometry,
        cuts=settings.scene_cuts,
        motion=settings.key_mode == "adaptive",
        known=analysis,
        cancelled=cancelled,
        note=note,
    )
    chosen = _choose_keys(settings, selection, analysis, note)
    shots = tuple(tuple(selection.indices[key] for key in shot.keys) for shot in chosen)
    cuts = tuple(selection.indices[cut] for cut in analysis.get("cuts", ()))
    plan = Plan(info, source_hash, selection, geometry, shots, cuts, mask)
    _check_limit("key frames", len(plan.keys), settings.limit_key_frames, "limit_key_frames", "key_interval")
    return plan, analysis


def _choose_keys(
    settings: Settings, selection: Selection, analysis: dict[str, Any], note: Callable[[str], None]
) -> list[Shot]:
    """Key frames by shot, as positions in the selection."""
    count = len(selection)
    cuts = analysis.get("cuts", [])
    starts = [0, *cuts, count]
    if settings.key_mode == "uniform":
        keys = [a + key for a, b in pairwise(starts) for key in uniform_keys(b - a, settings.key_interval)]
    elif settings.key_mode == "adaptive":
        # Shot by shot: the jump at a cut is no motion. Clips of one or two frames are not analysed.
        motion = analysis.get("motion") or [0.0] * count
        gaps = (settings.key_min_gap, settings.key_max_gap, settings.key_motion)
        keys = [a + key for a, b in pairwise(starts) for key in adaptive_keys(motion[a:b], *gaps)]
    else:
        keys = _listed(settings.key_frames, selection, note)
    return split_shots(keys, cuts, count)


def _listed(text: str, selection: Selection, note: Callable[[str], None]) -> list[int]:
    """Positions of key frames listed by frame number in the source; those that the run leaves out are told."""
    if not text.strip():
        raise UserError(
            'key_mode "listed" needs frame numbers.', hint='Give them as --set key_frames="0, 12, 40-60:5".'
        )
    position = {frame: number for number, frame in enumerate(selection.indices)}
    numbers = listed_keys(text, selection.indices[-1] + 1)
    left_out = [str(number) for number in numbers if number not in position]
    if left_out:
        listed = ", ".join(left_out[:8]) + (" …" if len(left_out) > 8 else "")
        note(f"Listed key frames that are not among the frames of the run are left out: {listed}")
    return [position[number] for number in numbers if number in position]


def choose_frames(info: VideoInfo, settings: Settings) -> Selection:
    """The frames that the settings ask for.

    Raises:
        UserError: a range that does not fit the clip, or more frames than the guard allows.
    """
    timestamps, end_time, rate = info.timestamps, info.end_time, settings.frame_rate
    if info.kind == "folder" and rate:  # pictures carry no times: it is theirs, and none is left out
        timestamps, end_time = times_of_pictures(info.frames, rate)
        rate = 0.0
    selection = select_frames(
        timestamps,
        start=settings.start_frame,
        end=settings.end_frame or None,
        frame_rate=rate,
        end_time=end_time,
    )
    range_settings = "start_frame, end_frame or frame_rate"
    _check_limit("frames", len(selection), settings.limit_frames, "limit_frames", range_settings)
    return selection


def analyse(
    info: VideoInfo,
    source_hash: str,
    selection: Selection,
    geometry: Geometry,
    *,
    cuts: bool,
    motion: bool = False,
    known: dict[str, Any],
    cancelled: Callable[[], bool],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Scene cuts and motion of the selection, from one pass over the clip, or from what is known of it.

    Returns:
        {} where nothing is wanted, else "fingerprint", "cuts" (positions in the selection) and "motion" (percent of
        the diagonal from the frame before, one value a frame).
    """
    if not (cuts or motion) or len(selection) < 3:
        return {}
    fingerprint = digest([source_hash, list(selection.indices), geometry.box, cuts, motion, ANALYSIS_VERSION])
    if known.get("fingerprint") == fingerprint:
        return known
    note("Looking for scene cuts" if cuts else "Measuring the motion")
    with FrameSource(info, selection=selection, geometry=_small(geometry)) as source:
        found, values = _pass_over(source, cuts, motion, cancelled)
    return {"fingerprint": fingerprint, "cuts": found, "motion": values}


ANALYSIS_VERSION = 1
"""Part of the fingerprint of an analysis: to be raised when cuts or motion are found in another way."""


def _small(geometry: Geometry) -> Geometry:
    """The same crop at about 128 pixels on the short side: cuts and motion are judged on small frames."""
    scale = min(1.0, 128 / min(geometry.width, geometry.height))
    return Geometry(box=geometry.box, width=round(geometry.width * scale), height=round(geometry.height * scale))


def _pass_over(
    source: FrameSource, want_cuts: bool, want_motion: bool, cancelled: Callable[[], bool]
) -> tuple[list[int], list[float]]:
    from rerender.motion.cuts import motion_magnitude, scene_cuts

    motion: list[float] = []

    def frames() -> Iterator[np.ndarray]:
        previous: np.ndarray | None = None
        for _, picture in source.read():
            if cancelled():
                raise Interrupted
            if want_motion:
                motion.append(motion_magnitude(previous, picture) if previous is not None else 0.0)
            previous = picture
            yield picture

    if want_cuts:
        return scene_cuts(frames()), motion
    for _ in frames():
        pass
    return [], motion


def check_size(geometry: Geometry, settings: Settings, decided_by: str) -> None:
    """Refuse a size before anything is rendered.

    Raises:
        UserError: smaller than the patches of the propagation, or larger than the guard allows.
    """
    if min(geometry.width, geometry.height) < LEAST_SIDE:
        raise UserError(
            f"The frames would be {geometry.width}x{geometry.height} pixels; each side needs {LEAST_SIDE} at least.",
            hint=f"Raise {decided_by}, or crop less.",
        )
    long_side = max(geometry.width, geometry.height)
    _check_limit("pixels on the long side", long_side, settings.limit_long_side, "limit_long_side", decided_by)


def _check_limit(what: str, value: int, limit: int, name: str, other: str) -> None:
    if limit and value > limit:
        raise UserError(
            f"The run would have {value} {what}; the limit is {limit}.",
            hint=f"Change {other}, or raise the guard with --set {name}={value} (0: no limit).",
        )
