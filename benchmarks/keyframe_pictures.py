"""Pictures of what each constraint does: the same key frames with it switched off and on.

``python -m benchmarks.keyframe_pictures [--out docs/pictures] [--only shape …] [--size 192]``

Each picture has the source's key frames on top, then a row with the constraint off and one with it on; the first
column is the anchor, which no constraint changes. Cross-frame attention has none: on the demo model one cannot see it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.keyframe_clips import open_footage, translate
from benchmarks.keyframe_quality import COMMON, NONE
from rerender.hosts.standalone import load_host

TITLE_HEIGHT = 18


@dataclass(frozen=True)
class Comparison:
    """One picture: a clip in a look, and the settings of both rows."""

    clip: str
    look: str
    keys: tuple[int, ...]
    off: dict[str, Any]
    on: dict[str, Any]
    common: dict[str, Any] = field(default_factory=dict)


COMPARISONS: dict[str, Comparison] = {
    "shape": Comparison(
        "parallax", "neon", (0, 4, 8), NONE, {**NONE, "shape_fusion": True}, {"denoising_strength": 0.7}
    ),
    "pixel": Comparison("parallax", "ink", (0, 4, 8), NONE, {**NONE, "pixel_fusion": True}),
    "color": Comparison("lighting", "oil", (0, 6, 12), NONE, {**NONE, "color_adain": True}),
    "detail": Comparison("deformation", "watercolour", (0, 4, 8), {"detail_fusion": False}, {}),
    "all": Comparison("bigbuckbunny.mp4", "oil", (0, 4, 8), NONE, {}),
}


def main() -> None:
    """Render and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/rerender-demo.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--size", type=int, default=192, help="short side in pixels")
    arguments = parser.parse_args()
    host = load_host(arguments.checkpoint)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        it = COMPARISONS[name]
        footage = open_footage(it.clip, it.look, arguments.size, it.keys[-1] + 1)
        rows = {"source": [footage.frames[key] for key in it.keys]}
        for title, options in (("off", it.off), ("on", it.on)):
            settings = {**COMMON, **it.common, **options}
            rows[title] = [key.picture for key in translate(host, footage, list(it.keys), settings)]
        picture = np.vstack([_row(title, pictures) for title, pictures in rows.items()])
        path = arguments.out / f"constraint-{name}.jpg"
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        print(path, flush=True)


def _row(title: str, pictures: list[np.ndarray]) -> np.ndarray:
    strip = np.hstack(pictures)
    label = np.full((TITLE_HEIGHT, strip.shape[1], 3), 255, np.uint8)
    cv2.putText(label, title, (4, TITLE_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([label, strip])


if __name__ == "__main__":
    main()
