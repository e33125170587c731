"""Frames of a clip, streamed: upright, cropped and resized, the same bytes however they are reached."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from rerender.errors import UserError
from rerender.video.decode import open_video, resize_exactly, to_rgb
from rerender.video.folder import list_pictures, read_picture
from rerender.video.geometry import Geometry
from rerender.video.probe import VideoInfo
from rerender.video.select import Selection

SEEK_DISTANCE = 12
"""Decoding this many frames on is taken to be cheaper than a seek."""


class FrameSource:
    """The selected frames of a clip at the working size; position k is frame `selection.indices[k]` of the clip.

    Nothing is kept between calls of `read`: memory does not depend on the length of the clip. One reader at a time;
    use it as a context manager, or call `close`.

    Args:
        info: the clip, from `probe`.
        selection: the frames to give; None is all of them.
        geometry: crop and size; None leaves the frames as displayed.
    """

    def __init__(self, info: VideoInfo, selection: Selection | None = None, geometry: Geometry | None = None) -> None:
        self.info = info
        self.geometry = geometry
        self.indices: Sequence[int] = range(info.frames) if selection is None else selection.indices
        self._decoder: _Decoder | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the source opens it again when it is read again."""
        if self._decoder:
            self._decoder.close()
            self._decoder = None

    def frame(self, position: int) -> np.ndarray:
        """One frame as uint8 RGB (H, W, 3)."""
        return next(self.read([position]))[1]

    def read(self, positions: Sequence[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Stream (position, uint8 RGB frame (H, W, 3)) for ascending positions; by default all of them.

        Raises:
            IndexError: a position outside the selection.
            ValueError: the positions are not ascending.
            UserError: the file has changed since it was examined, or a picture can't be read.
        """
        wanted = range(len(self)) if positions is None else positions
        if any(after <= before for before, after in pairwise(wanted)):
            raise ValueError("positions must be ascending")
        for position in wanted:
            if not 0 <= position < len(self):
                raise IndexError(f"position {position} of {len(self)} frames")
            frame = self._source_frame(self.indices[position])
            yield position, self.geometry.apply(frame) if self.geometry else frame

    def _source_frame(self, index: int) -> np.ndarray:
        """Frame `index` of the clip, upright, as displayed."""
        if self.info.kind == "folder":
            frame = read_picture(self.info.pictures[index])
            if frame.shape[:2] != (self.info.height, self.info.width):
                raise _changed(self.info.pictures[index])
            return frame
        if self._decoder is None:
            self._decoder = _Decoder(self.info)
        upright = self.info.orientation.apply(to_rgb(self._decoder.frame(index)))
        return resize_exactly(upright, self.info.width, self.info.height)


def _changed(path: Path) -> UserError:
    return UserError(f"{path} has changed since it was examined.", hint="Start the run again with a new project.")


class _Decoder:
    """Finds frames by number in a file. Seeks to key frames where the time stamps allow it, else counts."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.pts: list[int] = [pts for pts in info.pts if pts is not None]
        is_ascending = all(after > before for before, after in pairwise(self.pts))
        self.can_seek = is_ascending and len(self.pts) == info.frames
        self._open()

    def _open(self) -> None:
        self._context = open_video(self.info.path)
        self.container, self.stream = self._context.__enter__()
        self._start_decoding()
        self.next_index = 0

    def _start_decoding(self) -> None:
        self._frames: Iterator[Any] = self.container.decode(self.stream)

    def close(self) -> None:
        self._context.__exit__(None, None, None)

    def frame(self, index: int) -> av.VideoFrame:
        """Decode frame `index` of the clip."""
        if not self._try_seek(index) and index < self.next_index:
            self._reopen()
        frame = self._advance(index)
        if frame is None:
            # The seek came out behind the frame: count from the start, which always works.
            self._reopen()
            self.can_seek = False
            frame = self._advance(index)
        if frame is None:
            raise _changed(self.info.path)
        return frame

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _try_seek(self, index: int) -> bool:
        """Go to the last key frame that is not behind `index`, if that is worth it."""
        place = bisect_right(self.info.key_frames, index) - 1
        if not self.can_seek or place < 0:
            return False
        key_frame = self.info.key_frames[place]
        is_forward = index >= self.next_index
        if is_forward and key_frame < self.next_index + SEEK_DISTANCE:
            return False
        try:
            self.container.seek(self.pts[key_frame], stream=self.stream, backward=True)
        except av.FFmpegError:
            return False
        self._start_decoding()
        self.next_index = -1
        return True

    def _advance(self, index: int) -> av.VideoFrame | None:
        """Decode up to frame `index`; None if it does not come."""
        try:
            for frame in self._frames:
                number = self._number(frame)
                self.next_index = number + 1
                if number == index:
                    return frame
                if number > index:
                    return None
        except av.FFmpegError as error:
            raise _changed(self.info.path) from error
        return None

    def _number(self, frame: av.VideoFrame) -> int:
        """Number of a decoded frame: counted, or found by its time stamp."""
        if not self.can_seek:
            return self.next_index
        if frame.pts is None:
            return self.info.frames
        return bisect_left(self.pts, frame.pts)


def source_hash(path: Path | str) -> str:
    """SHA-256 of a clip's content as hex; for a folder, of its pictures' names and contents in order. Streamed."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in list_pictures(path) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
            digest.update(file.stat().st_size.to_bytes(8, "little"))
        _hash_file(digest, file)
    return digest.hexdigest()


def _hash_file(digest: Any, path: Path) -> None:
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"The file {path} can't be read: {error.strerror}.", hint="Check the path.") from error
