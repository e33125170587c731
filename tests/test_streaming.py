"""Memory does not grow with the length of a clip: how many source frames are alive at once is counted."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from rerender.cli import main
from rerender.files import write_png
from rerender.propagate.pieces import PIECE
from rerender.video import read

INTERVAL = 4


class Census:
    """Counts the frames that were read and are still in memory."""

    def __init__(self) -> None:
        self.frames: list[weakref.ref[np.ndarray]] = []
        self.largest = 0

    def read(self, path: Path) -> np.ndarray:
        frame = read_picture(path)
        self.frames = [each for each in self.frames if each() is not None]
        self.frames.append(weakref.ref(frame))
        self.largest = max(self.largest, len(self.frames))
        return frame


read_picture = read.read_picture


@pytest.mark.parametrize("frames", [21, 61])
def test_at_most_two_intervals_of_frames_are_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    census = propagated(tmp_path, monkeypatch, frames, range(0, frames, INTERVAL))
    assert census.largest <= 2 * (INTERVAL + 1)
    gc.collect()
    assert sum(each() is not None for each in census.frames) <= 1


def test_a_piece_of_frames_is_alive_around_a_single_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 6 * PIECE
    census = propagated(tmp_path, monkeypatch, frames, [frames // 2])
    assert census.largest <= PIECE + 6  # a piece, its neighbours, the key frame's input, and one for the masks
    assert len(list((tmp_path / "out.rerender" / "frames").iterdir())) == frames - 1


def propagated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, keys: Iterable[int]) -> Census:
    """Who was alive while a texture that moves was propagated."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (24, 32 + frames, 3), dtype=np.uint8)
    for number in range(frames):
        write_png(tmp_path / "clip" / f"{number:03}.png", texture[:, number : number + 32])
    for number in keys:
        write_png(tmp_path / "keys" / f"{number}.png", 255 - texture[:, number : number + 32])
    census = Census()
    monkeypatch.setattr(read, "read_picture", census.read)
    words = ["propagate", f"{tmp_path}/clip", "--keys", f"{tmp_path}/keys", "--output", f"{tmp_path}/out.mp4"]
    assert main([*words, "--set", "workers=1", "--set", "propagation_preset=fast"]) == 0
    return census
