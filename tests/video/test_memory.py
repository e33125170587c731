"""Peak memory of reading and writing does not depend on the length of the clip."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tests.video.clips import tone, write_clip

SIZE = (240, 180)
FRAME_MB = SIZE[0] * SIZE[1] * 3 / 2**20

COPY = """
import sys
from pathlib import Path
import psutil
from rerender.video.audio import audio_range
from rerender.video.probe import probe
from rerender.video.read import FrameSource
from rerender.video.select import select_frames
from rerender.video.write import open_writer

source, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
info = probe(source, until=count)
chosen = select_frames(info.timestamps, end_time=info.end_time)
peak = 0
with FrameSource(info, chosen) as frames, open_writer(
    target, width=info.width, height=info.height, times=chosen.times, audio=audio_range(info, chosen)
) as writer:
    for position, frame in frames.read():
        writer.write(frame, chosen.times[position], chosen.durations[position])
        peak = max(peak, psutil.Process().memory_info().rss)
print(peak / 2**20)
"""


def peak_mb(source: Path, target: Path, count: int) -> float:
    command = [sys.executable, "-c", COPY, str(source), str(target), str(count)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    return float(done.stdout)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    times = [Fraction(k, 25) for k in range(400)]
    return write_clip(path, times, size=SIZE, options={"preset": "ultrafast"}, sound=tone(16))


def test_four_times_the_frames_take_the_same_memory(tmp_path: Path, long_clip: Path) -> None:
    short = peak_mb(long_clip, tmp_path / "short.mp4", 100)
    long = peak_mb(long_clip, tmp_path / "long.mp4", 400)
    assert long - short < 60 * FRAME_MB, f"{short:.1f} MB for 100 frames, {long:.1f} MB for 400"
