"""Clips to be measured: files, folders of frames, scenes and lists, all at the size of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from rerender.errors import UserError
from rerender.evaluate.motion import Frame, Mask
from rerender.evaluate.scenes import Scene
from rerender.video.geometry import Geometry
from rerender.video.probe import probe
from rerender.video.read import FrameSource

ClipLike = str | Path | Scene | Sequence[Frame]
"""A video file or folder of frames by its path, a scene, or frames in memory."""


class Clip(Protocol):
    """Frames by number; a second run through them costs a second decoding, no memory."""

    name: str
    size: tuple[int, int]
    """(height, width) in pixels."""
    rate: float
    """Frames per second."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Frame:
        """Frame `number`, uint8 RGB (H, W, 3)."""
        ...

    def close(self) -> None:
        """Free what was opened; the clip opens again when it is used again."""


class MemoryClip:
    """Frames that are there already, or that a scene renders."""

    def __init__(self, name: str, frames: Sequence[Frame] | Scene, rate: float = 12.0) -> None:
        self.name, self.rate = name, rate
        self._frames = frames
        self.size = frames.size if isinstance(frames, Scene) else (frames[0].shape[0], frames[0].shape[1])

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Frame:
        return self._frames.frames[number] if isinstance(self._frames, Scene) else self._frames[number]

    def close(self) -> None:
        """Nothing to free."""


class FileClip:
    """A video file, a GIF or a folder of frames, streamed; resized as a run does it where `size` is given."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None, start: int = 0) -> None:
        info = probe(path)
        if start >= info.frames:
            raise UserError(f"{path} has {info.frames} frames: there is no frame {start} to start at.")
        self.name, self.path, self.rate = path.name, path, float(info.rate)
        self.size = size or (info.height, info.width)
        self._start = start
        geometry = Geometry((0, 0, info.width, info.height), self.size[1], self.size[0])
        self._source = FrameSource(info, geometry=geometry)

    def __len__(self) -> int:
        return len(self._source) - self._start

    def __getitem__(self, number: int) -> Frame:
        return self._source.frame(self._start + number)

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def open_clip(clip: ClipLike, name: str = "", size: tuple[int, int] | None = None, start: int = 0) -> Clip:
    """Open a clip; files are resized to `size` (height, width) and begin at frame `start`.

    Raises:
        UserError: unreadable file, or frames in memory that are empty or of another size.
    """
    if isinstance(clip, str | Path):
        return FileClip(Path(clip), size, start)
    if len(clip) == 0:
        raise UserError(f"The clip {name} has no frames.")
    opened = MemoryClip(name or getattr(clip, "name", "clip"), clip)
    if size is not None and opened.size != size:
        raise UserError(f"The clip {opened.name} has {_shape(opened.size)} pixels, not {_shape(size)}.")
    return opened


class Masks:
    """Which pixels count, frame by frame: a picture for all frames, or a clip; white counts, black does not."""

    def __init__(self, mask: ClipLike | None, size: tuple[int, int], frames: int, start: int = 0) -> None:
        self._all = np.ones(size, bool)
        self._clip: Clip | None = None
        if mask is None:
            return
        is_picture = isinstance(mask, str | Path) and len(FileClip(Path(mask))) == 1
        self._clip = open_clip(mask, "mask", size, 0 if is_picture else start)
        self._single = len(self._clip) == 1
        if not self._single and len(self._clip) < frames:
            raise UserError(f"The mask has {len(self._clip)} frames, the result {frames}.")

    def __getitem__(self, number: int) -> Mask:
        if self._clip is None:
            return self._all
        picture = self._clip[0 if self._single else number]
        inside: Mask = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) >= 128
        return inside


def check_lengths(source: Clip, results: Sequence[Clip]) -> tuple[int, str]:
    """Frames that are compared, and a note if the source is longer than the results.

    Raises:
        UserError: a result has another size or length than the first one, or more frames than the source.
    """
    result = results[0]
    for other in results[1:]:
        if len(other) != len(result):
            raise UserError(
                f"{other.name} has {len(other)} frames, {result.name} has {len(result)}.",
                hint="Results are compared frame by frame: render the same range.",
            )
    if len(result) > len(source):
        raise UserError(
            f"{result.name} has {len(result)} frames, the source only {len(source)}.",
            hint="Each frame is compared with its own source frame: give the clip that was rendered.",
        )
    if len(result) < 2:
        raise UserError(f"{result.name} has {len(result)} frame; consistency needs at least 2.")
    if len(result) == len(source):
        return len(result), ""
    return len(result), f"the source has {len(source)} frames: its first {len(result)} were compared"


def read_ahead(clip: Clip, count: int) -> Iterator[Frame]:
    """The first `count` frames in order."""
    for number in range(count):
        yield clip[number]


def _shape(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
