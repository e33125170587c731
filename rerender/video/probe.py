"""What is in a clip: every frame counted and timed exactly, by decoding it once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import av

from rerender.errors import UserError
from rerender.video.decode import Orientation, open_video, orientation_of
from rerender.video.folder import PICTURE_SUFFIXES, check_pictures, list_pictures
from rerender.video.timing import exact_rate, median_gap, repair_timestamps

DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class AudioInfo:
    """One audio stream of a clip."""

    codec: str
    sample_rate: int
    layout: str


@dataclass(frozen=True)
class VideoInfo:
    """A clip, as `probe` found it.

    Attributes:
        path: the file or folder.
        kind: "file", or "folder" for pictures (also a single one).
        width: in pixels, as displayed: upright, with square pixels.
        height: in pixels, as displayed.
        timestamps: when each frame is shown, in seconds of the file's own clock; strictly increasing.
        duration: from the first frame to the end of the last one, seconds.
        rate: average frames per second.
        is_variable: the frames are not evenly spaced.
        codec: name of the video codec, or of the picture format.
        rotation: by how many degrees the stored frames are turned clockwise for display.
        audio: the audio streams.
        is_complete: False when `until` stopped the count before the end of the clip.
        orientation: how stored frames are turned.
        pts: the stored time stamps in ticks, by which frames are found again after a seek.
        key_frames: numbers of the frames at which decoding can begin.
        pictures: the files of a folder, in order.
    """

    path: Path
    kind: Literal["file", "folder"]
    width: int
    height: int
    timestamps: tuple[Fraction, ...]
    duration: Fraction
    rate: Fraction
    is_variable: bool
    codec: str
    rotation: int = 0
    audio: tuple[AudioInfo, ...] = ()
    is_complete: bool = True
    orientation: Orientation = field(default_factory=Orientation)
    pts: tuple[int | None, ...] = ()
    key_frames: tuple[int, ...] = ()
    pictures: tuple[Path, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.timestamps)

    @property
    def end_time(self) -> Fraction:
        """When the last frame ends, in seconds of the file's own clock."""
        return self.timestamps[0] + self.duration

    def summary(self) -> dict[str, Any]:
        """The main facts, ready for JSON."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "duration_s": round(float(self.duration), 6),
            "frame_rate": round(float(self.rate), 6),
            "variable_frame_rate": self.is_variable,
            "codec": self.codec,
            "rotation": self.rotation,
            "audio": [f"{audio.codec}, {audio.sample_rate} Hz, {audio.layout}" for audio in self.audio],
        }


def probe(path: Path | str, *, frame_rate: float | Fraction = DEFAULT_RATE, until: int | None = None) -> VideoInfo:
    """Examine a video file, an animated GIF, a folder of frames, or a single picture (a clip of one frame).

    Every frame is decoded once, in bounded memory, so that the number of frames is exact and damage is found before a
    long run and not in the middle of it.

    Args:
        path: the clip.
        frame_rate: frames per second of a folder; files have their own.
        until: only frames before this one are needed: counting and checking stop there. Makes the sound part of a
            damaged clip usable, and is fast on a long one. None or 0 is the whole clip.

    Raises:
        UserError: no such file, not a video, damaged or cut short (says how many frames can be read), without frames,
            only sound, folder without pictures or with pictures of different sizes, unreadable picture.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file or folder {path}.", hint="Check the path.")
    if path.is_dir():
        return _probe_pictures(path, list_pictures(path), frame_rate, until)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _probe_pictures(path, [path], frame_rate, until)
    return _probe_file(path, until)


def _probe_pictures(path: Path, pictures: list[Path], frame_rate: float | Fraction, until: int | None) -> VideoInfo:
    if frame_rate <= 0:
        raise UserError(f"The frame rate {float(frame_rate):g} for {path} must be above 0.")
    used = pictures[: until or None]
    width, height = check_pictures(used)
    timestamps, duration = times_of_pictures(len(used), frame_rate)
    return VideoInfo(
        path=path,
        kind="folder",
        width=width,
        height=height,
        timestamps=timestamps,
        duration=duration,
        rate=exact_rate(frame_rate),
        is_variable=False,
        codec=used[0].suffix.lower().lstrip("."),
        is_complete=len(used) == len(pictures),
        pictures=tuple(used),
    )


def times_of_pictures(count: int, frame_rate: float | Fraction) -> tuple[tuple[Fraction, ...], Fraction]:
    """When each of `count` pictures is shown at a constant rate, and when the last one ends, in seconds."""
    rate = exact_rate(frame_rate)
    return tuple(index / rate for index in range(count)), count / rate


@dataclass
class _Scan:
    """What one pass over a file found."""

    pts: list[int | None] = field(default_factory=list)
    key_frames: list[int] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    orientation: Orientation = field(default_factory=Orientation)
    last_duration: int = 0
    next_pts: int | None = None
    packets: int = 0
    end_time: Fraction = Fraction(0)
    is_complete: bool = True
    damage: str = ""

    def add(self, frame: av.VideoFrame) -> None:
        if not self.pts:
            self.size = frame.width, frame.height
            self.orientation = orientation_of(frame)
        if frame.key_frame:
            self.key_frames.append(len(self.pts))
        self.pts.append(frame.pts)
        self.last_duration = int(getattr(frame, "duration", 0) or 0)


def _probe_file(path: Path, until: int | None) -> VideoInfo:
    with open_video(path) as (container, stream):
        scan = _scan(container, stream, until)
        if scan.is_complete:
            scan.damage = scan.damage or _missing_end(container, stream, scan)
            scan.is_complete = not scan.damage
        if not until or len(scan.pts) < until:
            _refuse_damage(path, scan)
        return _describe(path, container, stream, scan)


def _scan(container: Any, stream: Any, until: int | None) -> _Scan:
    """Decode the whole clip, or its first `until` frames; stops at the first damage."""
    scan = _Scan()
    for frame in _frames(container, stream, scan):
        if until and len(scan.pts) == until:
            scan.is_complete, scan.next_pts = False, frame.pts
            break
        if frame.is_corrupt:
            scan.damage = "a frame is damaged"
            break
        scan.add(frame)
    return scan


def _frames(container: Any, stream: Any, scan: _Scan) -> Iterator[av.VideoFrame]:
    """All frames; notes errors and the latest end of any packet in `scan` instead of raising."""
    try:
        for packet in container.demux(stream, *container.streams.audio):
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                scan.end_time = max(scan.end_time, end)
            if packet.stream_index != stream.index:
                continue
            scan.packets += packet.size > 0
            if packet.is_corrupt:
                scan.damage = "the data breaks off"
                return
            yield from packet.decode()
    except av.FFmpegError as error:
        scan.damage = str(error.strerror or error).lower()


def _missing_end(container: Any, stream: Any, scan: _Scan) -> str:
    """Why the clip looks cut short although nothing failed: the file promises more than it holds."""
    known = [pts * stream.time_base for pts in scan.pts if pts is not None]
    if stream.frames and stream.duration and known:
        reached, tolerance = max(known), Fraction(1, 10) + 2 * median_gap(known, Fraction(0))
        is_short = scan.packets < stream.frames and reached + tolerance < _promised_end(stream)
    elif container.duration and container.format.name.startswith(("matroska", "flv")):
        promised = Fraction((container.start_time or 0) + container.duration, av.time_base)
        is_short = scan.end_time + Fraction(1, 2) < promised
    else:
        is_short = False
    return "the data ends early" if is_short else ""


def _promised_end(stream: Any) -> Fraction:
    """When the stream ends according to the file's header, seconds."""
    return ((stream.start_time or 0) + stream.duration) * stream.time_base


def _refuse_damage(path: Path, scan: _Scan) -> None:
    count = len(scan.pts)
    if scan.damage and count:
        raise UserError(
            f"The video {path} is damaged or cut short ({scan.damage}): only its first {count} frames can be read.",
            hint=f"Set end_frame to {count} or less to use the part before the damage, or copy the file again.",
        )
    if scan.damage:
        raise UserError(
            f"The video {path} is damaged ({scan.damage}): no frame can be read.", hint="Copy or download it again."
        )
    if not count:
        raise UserError(f"The video {path} has no frames.", hint="Choose a file with at least one frame.")


def _describe(path: Path, container: Any, stream: Any, scan: _Scan) -> VideoInfo:
    guess = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    raw = [None if pts is None else pts * stream.time_base for pts in scan.pts]
    gap = median_gap(raw, 1 / Fraction(guess))
    times = repair_timestamps(raw, gap)
    duration = _end_of(container, stream, scan, times[-1], gap) - times[0]
    width, height = _displayed_size(stream, scan)
    gaps = [after - before for before, after in pairwise(times)]
    is_variable = any(abs(value - gap) > max(2 * stream.time_base, Fraction(1, 1000)) for value in gaps)
    average = Fraction(len(times)) / duration
    is_close = abs(Fraction(guess) / average - 1) < Fraction(1, 100)
    return VideoInfo(
        path=path,
        kind="file",
        width=width,
        height=height,
        timestamps=tuple(times),
        duration=duration,
        rate=Fraction(guess) if is_close and not is_variable else average,
        is_variable=is_variable,
        codec=stream.codec_context.name,
        rotation=scan.orientation.degrees,
        audio=tuple(_audio_info(audio) for audio in container.streams.audio),
        is_complete=scan.is_complete,
        orientation=scan.orientation,
        pts=tuple(scan.pts),
        key_frames=tuple(scan.key_frames),
    )


def _end_of(container: Any, stream: Any, scan: _Scan, last: Fraction, gap: Fraction) -> Fraction:
    """When the last frame, shown at `last`, ends: when the next one begins, or by its own or the stream's duration.

    For mp4 files with B-frames FFmpeg 7 gives durations of frames that are too short, and with uneven times the
    duration of the stream is too short: the longer one is right.
    """
    if scan.next_pts is not None and scan.next_pts * stream.time_base > last:
        return scan.next_pts * stream.time_base
    end = last + (scan.last_duration * stream.time_base or gap)
    if scan.is_complete and stream.duration and container.format.name.startswith("mov"):
        end = max(end, _promised_end(stream))
    return end


def _displayed_size(stream: Any, scan: _Scan) -> tuple[int, int]:
    """Size after widening non-square pixels and turning the frame upright."""
    width, height = scan.size
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if aspect:
        width = max(1, round(width * aspect))
    return (height, width) if scan.orientation.transpose else (width, height)


def _audio_info(stream: Any) -> AudioInfo:
    context = stream.codec_context
    if context is None:
        return AudioInfo(codec="unknown", sample_rate=0, layout="")
    return AudioInfo(codec=context.name, sample_rate=context.sample_rate or 0, layout=context.layout.name)
