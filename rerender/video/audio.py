"""The source's sound for the output: packets copied bit for bit where the container can hold them, else re-encoded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from rerender.video.decode import open_container
from rerender.video.probe import VideoInfo
from rerender.video.select import Selection

log = logging.getLogger(__name__)

COPIED = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    ".webm": {"opus", "vorbis"},
}
"""Codecs that players expect in each container; everything else is re-encoded."""

ENCODER = {".mp4": ("aac", None), ".webm": ("libopus", 48000)}
"""What it is re-encoded to, and the sample rate if the codec wants a certain one."""


AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}

GAP = Fraction(1, 100)
"""A jump in the times of sound that is longer than this, in seconds, is a gap."""


@dataclass(frozen=True)
class AudioRange:
    """The part of a file's sound, in seconds of the file's own clock, that belongs to the output."""

    path: Path
    start: Fraction
    end: Fraction


def audio_range(info: VideoInfo, selection: Selection) -> AudioRange | None:
    """The sound that belongs to the selected frames; None if the clip has none."""
    if info.kind != "file" or not info.audio:
        return None
    return AudioRange(info.path, selection.start, selection.end)


class _Track(Protocol):
    def feed(self, packet: Any) -> list[Any]:
        """Packets for the output from one packet of the source; None flushes."""


class AudioFeed:
    """Streams the sound of a range into an output container, in step with the pictures.

    Add it before the first packet is muxed; call `advance` with the time that the pictures have reached, so that
    packets come interleaved and nothing piles up.
    """

    def __init__(self, range_: AudioRange, output: Any, ending: str) -> None:
        self._range = range_
        self._output = output
        self._stack = ExitStack()
        self._input = open_container(range_.path)
        self._stack.callback(self._input.close)
        self._tracks: dict[int, _Track] = {}
        streams = [stream for stream in self._input.streams.audio if stream.codec_context is not None]
        for stream in streams:
            if stream.codec_context.name in COPIED[ending]:
                self._tracks[stream.index] = _Copy(stream, output, range_, ending)
            else:
                self._tracks[stream.index] = _Recode(stream, output, range_, ending)
        self._reached = Fraction(-1)
        self._packets = self._read(streams) if streams else iter(())

    def _read(self, streams: list[Any]) -> Iterator[list[Any]]:
        """Lists of packets for the output; stops soon after the end of the range."""
        if self._range.start > 1:
            self._seek(streams[0])
        done: set[int] = set()
        for packet in self._demux(streams):
            if packet.pts is None:
                packet.pts = packet.dts
            if packet.pts is None:
                continue
            time = packet.pts * packet.time_base
            self._reached = max(self._reached, time - self._range.start)
            if time >= self._range.end:
                done.add(packet.stream_index)
                if len(done) == len(streams):
                    break
                continue
            yield self._tracks[packet.stream_index].feed(packet)
        for track in self._tracks.values():
            yield track.feed(None)

    def _demux(self, streams: list[Any]) -> Iterator[Any]:
        """The packets of the source; where it can't be read on, the rest of the sound is left out."""
        try:
            yield from self._input.demux(*streams)
        except av.FFmpegError:
            reached = max(0.0, float(self._reached))
            log.warning("The sound of %s is damaged: it ends after %.2f s.", self._range.path, reached)

    def _seek(self, stream: Any) -> None:
        """Skip what lies well before the range; a file that can't seek is read from its start."""
        try:
            self._input.seek(int((self._range.start - 1) / stream.time_base), stream=stream)
        except av.FFmpegError:
            log.info("No seek in %s: its sound is read from the start.", self._range.path)

    def advance(self, time: Fraction | None) -> None:
        """Mux the sound up to `time` in seconds of the output; None is all that is left."""
        while time is None or self._reached <= time:
            packets = next(self._packets, None)
            if packets is None:
                return
            for packet in packets:
                self._output.mux(packet)

    def close(self) -> None:
        """Close the source of the sound."""
        self._stack.close()


class _Copy:
    """Hands packets on as they are, moved in time."""

    def __init__(self, stream: Any, output: Any, range_: AudioRange, ending: str) -> None:
        self._out = output.add_stream_from_template(stream)
        self._start = range_.start
        self._has_edit_list = ending == ".mp4"
        self._last_pts: int | None = None

    def feed(self, packet: Any) -> list[Any]:
        if packet is None or not self._is_wanted(packet):
            return []
        packet.pts -= round(self._start / packet.time_base)
        if self._last_pts is not None and packet.pts <= self._last_pts:
            return []  # a time that goes back, which no container takes
        self._last_pts = packet.dts = packet.pts
        packet.stream = self._out
        return [packet]

    def _is_wanted(self, packet: Any) -> bool:
        """Whether a packet belongs to the range, with what its decoder needs to start.

        mp4 can begin inside a packet: the one before the first is kept too, from which the decoder starts, and the
        edit list hides it. Elsewhere a negative time would move the pictures: only the source's own lead-in is kept.
        """
        time = packet.pts * packet.time_base
        if self._has_edit_list:
            return bool(time + 2 * (packet.duration or 0) * packet.time_base > self._start)
        return bool(time >= self._start or self._start <= 0)


class _Recode:
    """Decodes, cuts to the sample, fills gaps with silence, and encodes again."""

    def __init__(self, stream: Any, output: Any, range_: AudioRange, ending: str) -> None:
        codec, rate = ENCODER[ending]
        context = stream.codec_context
        self._range = range_
        self._stream = stream
        self._rate = rate or (context.sample_rate if context.sample_rate in AAC_RATES else 48000)
        self._next = 0
        self._out = output.add_stream(codec, rate=self._rate)
        self._out.layout = _layout(context.layout)
        self._resampler = av.AudioResampler(format=self._out.format.name, layout=self._out.layout, rate=self._rate)

    def feed(self, packet: Any) -> list[Any]:
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            log.warning("A packet of the sound of %s is damaged and left out.", self._range.path)
            frames = []
        resampled = [part for frame in frames for part in self._resampler.resample(frame)]
        if packet is None:
            resampled += self._resampler.resample(None)
        out = [made for frame in resampled for part in self._place(frame) for made in self._out.encode(part)]
        return out + self._out.encode(None) if packet is None else out

    def _place(self, frame: Any) -> Iterator[Any]:
        """The samples of a frame that lie in the range, after silence where the source has a gap.

        Encoders count samples and ignore times: without the silence all that follows a gap would come too early.
        """
        first, last = (round(time * self._rate) for time in (self._range.start, self._range.end))
        begin = round((frame.pts or 0) * frame.time_base * self._rate) - first
        if abs(begin - self._next) <= GAP * self._rate and begin >= 0:
            begin = self._next  # times are rounded, in mkv to 1 ms
        skip, stop = max(self._next - begin, 0), min(last - first - begin, frame.samples)
        if skip >= stop:
            return
        step = 1 if frame.format.is_planar else len(frame.layout.channels)
        samples = frame.to_ndarray()
        missing = begin + skip - self._next
        while missing > 0:
            length = min(missing, self._rate)
            yield self._frame(np.zeros((samples.shape[0], length * step), samples.dtype), length, frame)
            missing -= length
        yield self._frame(samples[:, skip * step : stop * step].copy(), stop - skip, frame)

    def _frame(self, samples: np.ndarray, length: int, like: Any) -> Any:
        """The next `length` samples as a frame in the format of another one."""
        part = av.AudioFrame.from_ndarray(samples, format=like.format.name, layout=like.layout.name)
        part.sample_rate = self._rate
        part.time_base = Fraction(1, self._rate)
        part.pts = self._next
        self._next += length
        return part


def _layout(layout: Any) -> str:
    """The source's channel layout where encoders know it, else stereo."""
    return layout.name if layout.name in {"mono", "stereo", "5.1", "7.1"} else "stereo"
