"""Peak memory of whole runs over clips of different length: it must not grow with the clip.

    python -m benchmarks.memory [--frames 100 400] [--side 128] [--json FILE]

Each run is a process of its own (key frames on a tiny checkpoint, propagation, output); the figure is the largest
resident size of that process, with propagation in the same process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from rerender.evaluate.scenes import scene
from rerender.video.write import open_writer
from tools.make_tiny_checkpoint import make_tiny_checkpoint

RUN = """
import resource, sys
from rerender.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(status)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_tiny_checkpoint(Path(folder))
        peaks = {count: peak_mb(Path(folder), checkpoint, count, options.side) for count in options.frames}
    first = peaks[options.frames[0]]
    for count, peak in peaks.items():
        print(f"{count:5} frames  {peak:5} MB  {peak / first:.3f}")
    if options.json:
        options.json.write_text(json.dumps(peaks, indent=1))


def peak_mb(folder: Path, checkpoint: Path, frames: int, side: int) -> int:
    """Largest resident size of one whole run, in MB."""
    clip = write_clip(folder / f"{frames}.mp4", frames, side)
    values = {"short_side": 0, "steps": 2, "key_interval": 20, "propagation_preset": "fast", "workers": 1}
    sets = [f"--set={name}={value}" for name, value in values.items()]
    words = ["run", str(clip), "--checkpoint", str(checkpoint), "--output", str(folder / f"{frames}-out.mp4"), *sets]
    done = subprocess.run([sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def write_clip(path: Path, frames: int, side: int) -> Path:
    """A scene of 20 frames, forth and back until there are enough."""
    pictures = scene("translation", seed=0, size=(side, side), frames=20).frames
    times = [Fraction(number, 25) for number in range(frames)]
    with open_writer(path, width=side, height=side, times=times) as writer:
        for number, time in enumerate(times):
            place = abs((number + 19) % 38 - 19)
            writer.write(np.ascontiguousarray(pictures[place]), time, Fraction(1, 25))
    return path


if __name__ == "__main__":
    main()
