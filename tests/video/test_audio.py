from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rerender.video.audio import audio_range
from rerender.video.geometry import plan_geometry
from rerender.video.probe import probe
from rerender.video.read import FrameSource
from rerender.video.select import select_frames
from rerender.video.write import open_writer
from tests.video.clips import audio_packets, decode_sound, real_clip, write_clip

RATE = 48000
BURSTS = (0.10, 0.55, 1.02, 1.40, 1.83)
SECONDS = 2


def bursts() -> np.ndarray:
    """Silence with 10 ms of a loud 1 kHz tone at known times, (2, samples)."""
    wave = np.zeros((2, SECONDS * RATE), dtype=np.float32)
    length = RATE // 100
    for start in BURSTS:
        first = round(start * RATE)
        wave[:, first : first + length] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(length) / RATE)
    return wave


def find_bursts(path: Path) -> list[float]:
    """Centres of the loud places of a file's sound, in seconds of the file's clock."""
    sound, start = decode_sound(path)
    power = np.convolve(sound.astype(np.float64) ** 2, np.ones(480) / 480, mode="same")
    loud = power > 0.25 * power.max()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.view(np.int8), [0]])))
    return [float(start) + (a + b) / 2 / RATE for a, b in zip(edges[::2], edges[1::2], strict=True)]


def render(source: Path, target: Path, start: int = 0, end: int | None = None, short_side: int = 0) -> None:
    """Copy a range of frames with its sound."""
    info = probe(source, until=end)
    plan = plan_geometry(info.width, info.height, short_side=short_side)
    chosen = select_frames(info.timestamps, start=start, end=end, end_time=info.end_time)
    with (
        FrameSource(info, chosen, plan) as frames,
        open_writer(
            target, width=plan.width, height=plan.height, times=chosen.times, audio=audio_range(info, chosen)
        ) as writer,
    ):
        for position, frame in frames.read():
            writer.write(frame, chosen.times[position], chosen.durations[position])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    times = [Fraction(k, 25) for k in range(25 * SECONDS)]
    codecs = {"aac.mp4": "aac", "pcm.mkv": "pcm_s16le", "vorbis.mkv": "vorbis", "opus.webm": "libopus"}
    return {
        name: write_clip(
            folder / name,
            times,
            codec="libvpx-vp9" if "webm" in name else "libx264",
            options={"cpu-used": "8"} if "webm" in name else {},
            sound=bursts(),
            sound_codec=codec,
        )
        for name, codec in codecs.items()
    }


@pytest.mark.parametrize(
    ("source", "ending", "codec"),
    [
        ("aac.mp4", "mp4", "aac"),
        ("pcm.mkv", "mp4", "aac"),
        ("vorbis.mkv", "mp4", "aac"),
        ("opus.webm", "mp4", "opus"),
        ("opus.webm", "webm", "opus"),
        ("vorbis.mkv", "webm", "vorbis"),
        ("aac.mp4", "webm", "opus"),
    ],
)
@pytest.mark.parametrize(("start", "end"), [(0, None), (11, 40)])
def test_sound_stays_in_sync(
    tmp_path: Path, sources: dict[str, Path], source: str, ending: str, codec: str, start: int, end: int | None
) -> None:
    target = tmp_path / f"clip.{ending}"
    render(sources[source], target, start, end)
    info = probe(target)
    assert [audio.codec.removeprefix("lib") for audio in info.audio] == [codec]
    assert info.timestamps == tuple(Fraction(k, 25) for k in range((end or 50) - start))
    wanted = [time - start / 25 + 0.005 for time in BURSTS if start / 25 <= time < (end or 50) / 25]
    found = find_bursts(target)
    assert len(found) == len(wanted)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 0.003


@pytest.mark.parametrize(("source", "ending"), [("aac.mp4", "mp4"), ("opus.webm", "webm"), ("vorbis.mkv", "webm")])
def test_packets_of_a_whole_clip_are_copied_bit_for_bit(
    tmp_path: Path, sources: dict[str, Path], source: str, ending: str
) -> None:
    render(sources[source], tmp_path / f"clip.{ending}")
    before, after = audio_packets(sources[source]), audio_packets(tmp_path / f"clip.{ending}")
    start = probe(sources[source]).timestamps[0]
    # FFmpeg 7 lets the pictures of the Vorbis clip begin 3 ms after its sound: that first packet can't be kept.
    used = [(time - start, data) for time, data in before if (start == 0 or time >= start) and time < SECONDS + start]
    assert [data for _, data in after] == [data for _, data in used]
    assert max(abs(a - b) for (a, _), (b, _) in zip(after, used, strict=True)) <= Fraction(1, 1000)


def test_packets_of_a_range_are_copied_bit_for_bit(tmp_path: Path) -> None:
    render(real_clip(), tmp_path / "clip.mp4", 50, 60, short_side=64)
    before = {data: time for time, data in audio_packets(real_clip())}
    after = audio_packets(tmp_path / "clip.mp4")
    assert len(after) >= 19
    for time, data in after:
        assert abs(before[data] - 2 - time) < Fraction(1, 10000)
    inside = [time for time in before.values() if 2 <= time < Fraction(12, 5)]
    assert len(after) >= len(inside)


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_damaged_sound_does_not_lose_the_pictures(
    tmp_path: Path, sources: dict[str, Path], ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(sources["aac.mp4"].read_bytes())
    with av.open(str(sources["aac.mp4"])) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for place, size in places[30:40]:
        data[place : place + size] = b"\xff" * size
    damaged.write_bytes(data)
    render(damaged, tmp_path / f"clip.{ending}")
    assert probe(tmp_path / f"clip.{ending}").frames == 50
    if ending == "webm":
        assert "damaged" in caplog.text
        last = find_bursts(tmp_path / "clip.webm")[-1]
        assert abs(last - BURSTS[-1] - 0.005) < 0.003


def test_sound_and_pictures_are_interleaved(tmp_path: Path, sources: dict[str, Path]) -> None:
    render(sources["aac.mp4"], tmp_path / "clip.mp4")
    latest = {"audio": 0.0, "video": 0.0}
    with av.open(str(tmp_path / "clip.mp4")) as container:
        entries = sorted(
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in container.demux()
            if packet.size and packet.dts is not None
        )
    for _, kind, time in entries:
        latest[kind] = time
        assert abs(latest["audio"] - latest["video"]) < 1.2


def test_a_clip_without_sound_has_none(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [Fraction(k, 25) for k in range(3)])
    info = probe(clip)
    assert audio_range(info, select_frames(info.timestamps)) is None


def test_gif_and_pictures_have_no_sound(tmp_path: Path, sources: dict[str, Path]) -> None:
    render(sources["aac.mp4"], tmp_path / "clip.gif", 0, 3)
    assert probe(tmp_path / "clip.gif").audio == ()
