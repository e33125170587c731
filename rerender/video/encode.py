"""mp4 (H.264) and webm (VP9) through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from rerender.video.audio import AudioFeed, AudioRange
from rerender.video.decode import BT601, BT709, SWS_FLAGS
from rerender.video.output import Writer, temporary_beside
from rerender.video.timing import time_base_for

WEBM_TIME_BASE = Fraction(1, 1000)
SMALL_PIXELS = 256 * 256
"""Below this size x264 goes without its macroblock tree, whose SIMD code now and then gives other bytes: in 1 of 200
encodings of the same 8 frames of 96x64, also with one thread; never in 600 without the tree, or without SIMD."""


class FileWriter(Writer):
    """Encodes to a temporary file, in BT.709 limited range, and moves it to its place at the end."""

    def __init__(
        self, path: Path, size: tuple[int, int], times: Sequence[Fraction], audio: AudioRange | None, quality: int
    ) -> None:
        super().__init__(path, size)
        self._ending = path.suffix.lower()
        self._temporary = temporary_beside(path)
        self._time_base = WEBM_TIME_BASE if self._ending == ".webm" else time_base_for(times)
        self._durations: dict[int, int] = {}
        options = {"movflags": "+faststart"} if self._ending == ".mp4" else {}
        # bitexact: no random or dated fields, equal input gives equal bytes.
        options["fflags"] = "+bitexact"
        self._container: Any = av.open(str(self._temporary.absolute()), "w", options=options)
        self._audio: AudioFeed | None = None
        try:
            self._stream = self._add_video(_rate_of(times), _is_even(times), quality)
            if audio is not None:
                self._audio = AudioFeed(audio, self._container, self._ending)
        except BaseException:
            self._discard()
            raise

    def _add_video(self, rate: Fraction, is_even: bool, quality: int) -> Any:
        if self._ending == ".mp4":
            codec, options = "libx264", {"crf": str(quality), "preset": "medium"}
            if self.width * self.height < SMALL_PIXELS:
                options["x264-params"] = "mbtree=0"
            if not is_even:
                # An mp4 track is as long as its decoding times say, which B-frames part from the times shown.
                options["bf"] = "0"
        else:
            crf = round(quality * 63 / 51)
            codec, options = "libvpx-vp9", {"crf": str(crf), "b": "0", "row-mt": "1", "cpu-used": "4"}
        stream = self._container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.color_range = int(ColorRange.MPEG)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def _write(self, frame: np.ndarray, time: Fraction, duration: Fraction) -> None:
        picture = to_yuv420(frame)
        picture.pts = round(time / self._time_base)
        picture.time_base = self._time_base
        self._durations[picture.pts] = max(1, round((time + duration) / self._time_base) - picture.pts)
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            if self._audio:
                self._audio.advance(packet.dts * packet.time_base)
            self._container.mux(packet)

    def _finish(self) -> None:
        self._mux(self._stream.encode(None))
        if self._audio:
            self._audio.advance(None)
        self._container.close()
        self._temporary.replace(self.path)

    def _discard(self) -> None:
        if self._audio:
            self._audio.close()
        try:
            self._container.close()
        except (av.FFmpegError, ValueError):
            pass  # an unfinished file has no valid end; it is removed
        finally:
            self._temporary.unlink(missing_ok=True)


def _rate_of(times: Sequence[Fraction]) -> Fraction:
    """Average rate, which encoders want as a hint."""
    if len(times) < 2:
        return Fraction(25)
    return ((len(times) - 1) / (times[-1] - times[0])).limit_denominator(100_000)


def _is_even(times: Sequence[Fraction]) -> bool:
    return len({after - before for before, after in pairwise(times)}) <= 1


def to_yuv420(frame: np.ndarray) -> av.VideoFrame:
    """A uint8 RGB frame (H, W, 3) as BT.709 limited range yuv420p; odd sides are padded by repeating the edge."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    converted = picture.reformat(
        format="yuv420p",
        src_colorspace=BT601,
        dst_colorspace=BT709,
        src_color_range=int(ColorRange.JPEG),
        dst_color_range=int(ColorRange.MPEG),
        interpolation=SWS_FLAGS,
    )
    converted.colorspace = BT709
    converted.color_range = int(ColorRange.MPEG)
    return converted
