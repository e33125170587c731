"""Makes docs/reports/known-faults: a scene in a known look, and the same with faults put in on purpose.

python -m tools.make_example_report [FOLDER]

Leaves report.html and figures.json. The test tests/evaluate/test_two_machines.py measures again wherever it runs and
compares with the figures.json that was committed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rerender.evaluate.command import Evaluation, evaluate
from rerender.evaluate.looks import apply_look
from rerender.evaluate.scenes import FIRST_HELD_OUT_SEED, scene

KEYS = (0, 4, 8)


def main() -> None:
    """Write report and figures, and print the table of the figures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/reports/known-faults")
    print(measure_known_faults(report_dir=folder, json_path=folder / "figures.json").table())


def measure_known_faults(**options: Any) -> Evaluation:
    """Measure the faults beside the look itself; options are those of `evaluate`."""
    clip = scene("enter_leave", FIRST_HELD_OUT_SEED, (160, 208), 9)
    look = [apply_look(frame, "watercolour") for frame in clip.frames]
    rng = np.random.default_rng(0)
    jitter = [np.clip(f * (1 + rng.normal(0, 0.04, 3)) + rng.normal(0, 5, f.shape), 0, 255) for f in look]
    results = {
        "look of each frame": look,
        "with jitter": [frame.astype(np.uint8) for frame in jitter],
        "soft in-betweens": [f if i in KEYS else cv2.GaussianBlur(f, (0, 0), 2.5) for i, f in enumerate(look)],
        "frozen": [look[0]] * len(look),
    }
    first, *others = results.values()
    return evaluate(clip, first, against=others, names=list(results), keys=KEYS, **options)


if __name__ == "__main__":
    main()
