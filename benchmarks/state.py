"""What it costs to store the references of key frames, so that a stopped run can go on.

    python -m benchmarks.state [--calls 15] [--seconds 3] [--keys 8] [--json FILE]

Two references with the features of SD1.5 at 512×512 (random values). "whole": both, after every key frame, by the
installed safetensors' own writer. "store": `ReferenceStore`, asked after each of `keys` key frames that take `seconds`
to render on an imagined clock, to which writing adds the time it takes. Each way runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rerender.files import replacing
from rerender.stages.references import ReferenceStore

LAYERS = 3 * [(256, 1280)] + 3 * [(1024, 640)] + 3 * [(4096, 320)]
"""Tokens and width of SD1.5's decoder self-attention at 512×512."""


class Translated:
    """Stands in for a translator: features of an anchor and of the key frame after it."""

    def __init__(self, calls: int) -> None:
        self.tensors = {name: _features(name, calls) for name in ("anchor", "previous")}

    def anchor_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The half that stays."""
        return self.tensors["anchor"], {}

    def state_since_anchor(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The half that changes."""
        return self.tensors["previous"], {}


def _features(name: str, calls: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.features.{call}.{layer}.{row}": torch.rand(shape).half()
        for call in range(calls)
        for layer, shape in enumerate(LAYERS)
        for row in (0, 1)
    }


def main() -> None:
    """Run both ways and print, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=15, help="model calls of a key frame")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a key frame takes")
    parser.add_argument("--keys", type=int, default=8)
    parser.add_argument("--way", choices=("whole", "store"), help="run this one here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    rows = {way: _in_process(way, options) for way in ("whole", "store")}
    for way, row in rows.items():
        print(way, ", ".join(f"{key} {value:.2f}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _in_process(way: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.state", "--way", way, "--calls", str(options.calls)]
    command += ["--seconds", str(options.seconds), "--keys", str(options.keys)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of writing a key frame (wall and CPU), and MiB on disk and above the features in memory."""
    translated = Translated(options.calls)
    rendered = 0.0
    started, cpu, before = time.monotonic(), time.process_time(), _peak()
    with tempfile.TemporaryDirectory() as folder:
        store = ReferenceStore(Path(folder), clock=lambda: time.monotonic() + rendered)
        for key in range(options.keys):
            rendered += options.seconds
            if options.way == "whole":
                with replacing(Path(folder) / "all.safetensors") as temporary:
                    save_file({**translated.anchor_state()[0], **translated.state_since_anchor()[0]}, temporary)
            elif store.is_due or key == options.keys - 1:
                store.save(translated, str(key), "0")  # type: ignore[arg-type]  # all that it uses is there
        written = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
    return {
        "wall_s_a_key": (time.monotonic() - started) / options.keys,
        "cpu_s_a_key": (time.process_time() - cpu) / options.keys,
        "on_disk_mib": written,
        "more_memory_mib": _peak() - before,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
