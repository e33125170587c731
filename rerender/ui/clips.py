"""Facts, plans and small pictures of clips, remembered, so that the panel can show at once what a run will do."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from rerender.settings import Settings
from rerender.ui.pictures import data_uri

if TYPE_CHECKING:  # the libraries of video and flow are left for the first use: a webui that starts must not wait
    from rerender.planning import Plan
    from rerender.video.geometry import Geometry
    from rerender.video.probe import VideoInfo

THUMBNAIL_HEIGHT = 96
Key = tuple[Any, ...]
T = TypeVar("T")


class _Kept(Generic[T]):
    """The values that were used last, up to a number of them; safe between threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._values, self._lock = limit, OrderedDict[Key, T](), threading.Lock()

    def get(self, key: Key) -> T | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: T) -> T:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value


class Clips:
    """What was found out about clips. Memory is bounded; files that changed are examined anew."""

    def __init__(self) -> None:
        self._infos: _Kept[VideoInfo] = _Kept(8)
        self._analyses: _Kept[dict[str, Any]] = _Kept(16)
        self._thumbnails: _Kept[str] = _Kept(3000)

    def info(self, video: Path) -> VideoInfo:
        """The clip's facts.

        Raises:
            UserError: it cannot be read.
        """
        from rerender.video.probe import probe

        key = _identity(video)
        return self._infos.get(key) or self._infos.put(key, probe(video))

    def quick_plan(self, video: Path, settings: Settings) -> Plan | None:
        """What a run would do if there were no cuts; None where that takes a pass over the clip."""
        if settings.key_mode == "adaptive":
            return None
        return self.plan(video, settings.copy(update={"scene_cuts": False}), lambda: False)

    def is_known(self, video: Path, settings: Settings) -> bool:
        """Whether `plan` needs no pass over the clip."""
        if not settings.scene_cuts and settings.key_mode != "adaptive":
            return True
        return self._analyses.get(_analysis_key(video, settings)) is not None

    def plan(self, video: Path, settings: Settings, cancelled: Callable[[], bool]) -> Plan:
        """What a run will do. The pass over the clip is made once.

        Raises:
            UserError: a setting does not fit the clip.
            Interrupted: `cancelled` said yes.
        """
        from rerender.planning import plan_run

        key = _analysis_key(video, settings)
        known = self._analyses.get(key) or {}
        # The content's hash would take a pass over the file; path, size and time tell clips apart as well.
        name = "|".join(map(str, _identity(video)))
        plan, analysis = plan_run(self.info(video), name, settings, analysis=known, cancelled=cancelled)
        self._analyses.put(key, analysis)
        return plan

    def thumbnails(self, plan: Plan, frames: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Small pictures (data addresses) of ascending frames, as they are decoded; known ones first."""
        from rerender.video.read import FrameSource

        geometry = _thumbnail_geometry(plan.geometry)
        keys = {frame: (*_identity(plan.info.path), geometry.box, frame) for frame in frames}
        missing = []
        for frame in frames:
            known = self._thumbnails.get(keys[frame])
            if known is None:
                missing.append(frame)
            else:
                yield frame, known
        with FrameSource(plan.info, None, geometry) as source:
            for frame, picture in source.read(missing):
                yield frame, self._thumbnails.put(keys[frame], data_uri(picture, quality=80))

    def frame(self, plan: Plan, frame: int) -> np.ndarray:
        """One source frame as a run would use it, uint8 RGB (height, width, 3)."""
        from rerender.video.read import FrameSource

        with FrameSource(plan.info, None, plan.geometry) as source:
            return source.frame(frame)


def _identity(video: Path) -> Key:
    stat = video.stat()
    return (str(video), stat.st_size, stat.st_mtime_ns)


def _analysis_key(video: Path, settings: Settings) -> Key:
    crop = (settings.crop_left, settings.crop_top, settings.crop_right, settings.crop_bottom)
    selection = (settings.start_frame, settings.end_frame, settings.frame_rate)
    return (*_identity(video), *crop, *selection, settings.scene_cuts, settings.key_mode == "adaptive")


def _thumbnail_geometry(geometry: Geometry) -> Geometry:
    width = max(16, round(geometry.width * THUMBNAIL_HEIGHT / geometry.height))
    return replace(geometry, width=min(width, 4 * THUMBNAIL_HEIGHT), height=THUMBNAIL_HEIGHT)
