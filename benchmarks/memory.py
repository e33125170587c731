"""Peak memory of runs over clips of different length: it must not grow with the clip, nor with its key frames.

    python -m benchmarks.memory [--frames 100 400] [--keys 5 50] [--side 128] [--json FILE]

Each run is a process of its own on a tiny checkpoint; the figure is the largest resident size of that process.
--frames: whole runs (key frames, propagation in the same process, output). --keys: the stage of key frames alone, one
key frame every four frames, all constraints on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

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
    parser.add_argument("--frames", type=int, nargs="*", default=[100, 400])
    parser.add_argument("--keys", type=int, nargs="*", default=[5, 50])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_tiny_checkpoint(Path(folder))
        whole = {count: whole_run(Path(folder), checkpoint, count, options.side) for count in options.frames}
        keys = {count: key_frames(Path(folder), checkpoint, count, options.side) for count in options.keys}
    show("frames", whole)
    show("key frames", keys)
    peaks = {"frames": whole, "key_frames": keys}
    if options.json:
        options.json.write_text(json.dumps(peaks, indent=1))


def show(unit: str, peaks: dict[int, int]) -> None:
    """Print each peak, and its ratio to the first one."""
    for count, peak in peaks.items():
        print(f"{count:5} {unit:10}  {peak:5} MB  {peak / next(iter(peaks.values())):.3f}")


def whole_run(folder: Path, checkpoint: Path, frames: int, side: int) -> int:
    """Largest resident size of one whole run, in MB."""
    clip = write_clip(folder / f"{frames}.mp4", frames, side)
    values = {"short_side": 0, "steps": 2, "key_interval": 20, "propagation_preset": "fast", "workers": 1}
    return peak_mb(
        ["run", str(clip), "--checkpoint", str(checkpoint), "--output", str(folder / f"{frames}-out.mp4")], values
    )


def key_frames(folder: Path, checkpoint: Path, keys: int, side: int) -> int:
    """Largest resident size of the key frame stage, in MB."""
    clip = write_clip(folder / f"{keys}-keys.mp4", 4 * (keys - 1) + 1, side)
    values = {"short_side": 0, "steps": 8, "key_interval": 4, "scene_cuts": False, "reanchor_below": 0}
    words = [
        "run",
        str(clip),
        "--stage",
        "keys",
        "--checkpoint",
        str(checkpoint),
        "--project",
        str(folder / f"k{keys}"),
    ]
    return peak_mb(words, values)


def peak_mb(words: list[str], values: dict[str, Any]) -> int:
    """Largest resident size of a command, in MB."""
    sets = [f"--set={name}={value}" for name, value in values.items()]
    words = [*words, *sets]
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
