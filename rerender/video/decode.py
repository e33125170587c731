"""The lowest level of reading: open a container safely, and turn decoded frames into upright RGB arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image

from rerender.errors import UserError
from rerender.pictures import flatten

NOT_VIDEO_FORMATS = {"tty", "lavfi", "concat", "hls", "dash", "sdp", "webvtt", "srt", "ass", "lrc"}
"""What FFmpeg would open although it is text, or a list that leads to other files."""

SWS_FLAGS = int(Interpolation.BICUBIC) | 0x40000 | 0x2000
"""Bicubic chroma, SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT: within 1 of the exact conversion, everywhere the same."""

BT709, FCC, BT601, SMPTE240M, BT2020 = 1, 4, 5, 7, 9
MATRIX_OF_TAG = {1: BT709, 4: FCC, 5: BT601, 6: BT601, 7: SMPTE240M, 9: BT2020, 10: BT2020}
"""Colour matrix (swscale's number) by the tag in the file (AVColorSpace's number)."""


@dataclass(frozen=True)
class Orientation:
    """How a stored frame has to be turned for display: first transposed, then mirrored."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise rotation for display; a mirrored frame counts as its rotation after mirroring left to right."""
        flip_x = self.flip_x if self.transpose else self.flip_y
        if self.transpose:
            return 90 if flip_x else 270
        return 180 if flip_x else 0

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Turn an array (H, W, ...) upright."""
        if self.transpose:
            frame = frame.swapaxes(0, 1)
        if self.flip_x:
            frame = frame[:, ::-1]
        if self.flip_y:
            frame = frame[::-1]
        return np.ascontiguousarray(frame)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix asks for (the nearest multiple of 90°, mirrored or not).

    The matrix (ISO 14496-12, 6.2.2) maps stored to displayed coordinates: x' = a·x + c·y, y' = b·x + d·y.
    """
    side_data: Any = frame.side_data
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), dtype=np.int32)[:5])
    if abs(a) >= abs(b):
        return Orientation(transpose=False, flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video file, giving (container, video stream). Cover pictures of audio files are no video.

    Raises:
        UserError: no such file, not a video, cut short before its index, or without pictures.
    """
    container = open_container(path)
    try:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            kind = "only sound" if container.streams.audio else "no pictures"
            raise UserError(f"The file {path} has {kind}, no video.", hint="Choose a file with a video stream.")
        stream = streams[0]
        if stream.codec_context is None:
            raise UserError(f"The video in {path} has a codec that can't be decoded here.", hint=CONVERT_HINT)
        stream.thread_type = "AUTO"
        yield container, stream
    finally:
        container.close()


CONVERT_HINT = "Convert it to H.264 in mp4 first, or give a folder of frames."


def open_container(path: Path) -> Any:
    """Open a media file for reading; only plain files, never something that a list in the file points to.

    Raises:
        UserError: no such file, no access, empty, cut short before its index, or no media file at all.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.", hint="Check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"The file {path} is empty.", hint="Copy or download it again.")
    try:
        # An absolute path can't be taken for a protocol ("data:", "concat:").
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except PermissionError as error:
        raise UserError(f"The file {path} may not be read.", hint="Change its permissions.") from error
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(path) from error
    if NOT_VIDEO_FORMATS & set(container.format.name.split(",")):
        container.close()
        raise UserError(f"The file {path} is not a video.", hint=CONVERT_HINT)
    return container


def _unreadable(path: Path) -> UserError:
    with path.open("rb") as file:
        is_mp4 = file.read(12)[4:8] == b"ftyp"
    if is_mp4:
        return UserError(
            f"The video {path} is cut short: its index (moov) is missing, so no frame can be read.",
            hint="Copy or download it again.",
        )
    return UserError(f"The file {path} is not a video.", hint=CONVERT_HINT)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as uint8 RGB (H, W, 3), not turned; transparency is laid on white.

    The matrix is the one in the file. Where it says nothing, BT.709 for more than 576 lines, else BT.601, as players
    do; unmarked range is limited range.
    """
    if frame.format.is_rgb or not frame.format.name.startswith(("yuv", "nv", "p0", "p2", "y2")):
        return flatten(frame.reformat(format="rgba").to_ndarray())
    is_full = frame.format.name.startswith("yuvj") or int(frame.color_range) == int(ColorRange.JPEG)
    matrix = MATRIX_OF_TAG.get(int(frame.colorspace), BT709 if frame.height > 576 else BT601)
    # PyAV 17 reads the BT.2020 matrix from the frame only, PyAV 15 ignores a source range without a change of matrix.
    frame.colorspace = matrix
    has_alpha = "a" in frame.format.name.removeprefix("yuv")
    converted = frame.reformat(
        format="rgba" if has_alpha else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=BT709 if matrix == BT601 else BT601,
        src_color_range=int(ColorRange.JPEG if is_full else ColorRange.MPEG),
        dst_color_range=int(ColorRange.JPEG),
        interpolation=SWS_FLAGS,
    ).to_ndarray()
    return flatten(converted) if has_alpha else converted


def resize_exactly(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a uint8 RGB frame to (height, width, 3) with Lanczos; unchanged if it has that size."""
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
