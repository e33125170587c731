"""What the stage of a run gives to the propagation: settings, intervals, key frames, cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerender.cli import main
from rerender.errors import Interrupted
from rerender.files import read_picture, write_png
from rerender.propagate import IntervalJob, PropagationSettings
from rerender.propagate.memory import interval_memory
from rerender.settings import make_settings
from rerender.stages import propagation
from rerender.stages.propagation import propagation_settings


def test_every_setting_of_the_propagation_reaches_it() -> None:
    chosen = {
        "propagation_preset": "quality", "guide_color": 1.5, "guide_position": 2.5, "guide_edge": 3.5,
        "guide_outline": 4.5, "guide_temporal": 5.5, "poisson": False, "device": "cuda",
    }  # fmt: skip
    weights = (f"{name}_weight" for name in ("color", "position", "edge", "outline", "temporal"))
    expected = dict(zip(weights, (1.5, 2.5, 3.5, 4.5, 5.5), strict=True))
    made = propagation_settings(make_settings(chosen))
    assert made == PropagationSettings(preset="quality", poisson=False, device="cuda", **expected)  # type: ignore[arg-type]
    assert propagation_settings(make_settings({})) == PropagationSettings()
    assert propagation_settings(make_settings({"device": "mps"})).device == "auto"


CUT, KEYS, COUNT = 4, (2, 6, 9), 11


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command line: eleven frames with a cut before the fifth, and key frames around that."""
    textures = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), dtype=np.uint8) // [[[[4]]], [[[1]]]]
    for number in range(COUNT):
        frame = np.ascontiguousarray(textures[int(number >= CUT)][:, number : number + 64]).astype(np.uint8)
        write_png(tmp_path / "clip" / f"{number}.png", frame)
        if number in KEYS:
            write_png(tmp_path / "keys" / f"{number}.png", 255 - frame)
    return ["propagate", f"{tmp_path}/clip", "--keys", f"{tmp_path}/keys", "--output", f"{tmp_path}/out"]


def test_intervals_come_with_their_frames_keys_and_cuts(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, clips, given = list[IntervalJob](), list[Sequence[np.ndarray]](), dict[str, Any]()

    def noted(each: Iterator[IntervalJob], settings: Any, **options: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        given.update(options)
        for number, job in enumerate(each):
            jobs.append(job)
            clips.append(job.clip()[0 : len(job.clip())])
            for offset in range(job.first_key is not None, len(job.frames) - (job.last_key is not None)):  # type: ignore[arg-type]
                yield number, offset, np.full((48, 64, 3), 10 * number + offset, np.uint8)

    monkeypatch.setattr(propagation, "propagate_all", noted)
    assert main([*words, "--set", "workers=3"]) == 0
    for clip, expected in zip(clips, ((0, 3), (2, 7), (6, 10), (9, 11)), strict=True):
        assert np.array_equal(clip, [read_picture(tmp_path / "clip" / f"{number}.png") for number in range(*expected)])
    assert clips[1][-1] is clips[2][0]  # decoded once
    assert [tuple(job.cuts) for job in jobs] == [(), (CUT - 2,), (), ()]
    keys = [read_picture(tmp_path / "keys" / f"{key}.png") for key in KEYS]
    for job, expected in zip(jobs, [(None, keys[0]), keys[:2], keys[1:], (keys[2], None)], strict=True):
        for got, wanted in zip((job.first_key, job.last_key), expected, strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or np.array_equal(got, wanted)
    assert (given["workers"], given["memory"]) == (3, interval_memory(5, 48, 64))
    assert given["cancelled"]() is False
    out = [int(read_picture(path)[0, 0, 0]) for path in sorted((tmp_path / "out").iterdir())]
    assert [out[number] for number in range(COUNT) if number not in KEYS] == [0, 1, 11, 12, 13, 21, 22, 31]


def test_an_interval_counts_when_its_last_frame_is_there(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of an earlier run lie there already: that all are present says nothing."""
    made, stop_at = list[tuple[int, int]](), list[tuple[int, int]]()

    def gray(each: Iterator[IntervalJob], *_: Any, **__: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        for number, job in enumerate(each):
            for offset in range(job.first_key is not None, len(job.frames) - (job.last_key is not None)):  # type: ignore[arg-type]
                if (number, offset) in stop_at:
                    raise Interrupted()
                made.append((number, offset))
                yield number, offset, np.full((48, 64, 3), len(made), np.uint8)

    monkeypatch.setattr(propagation, "propagate_all", gray)
    assert main(words) == 0
    made.clear()
    write_png(tmp_path / "keys" / "6.png", np.zeros((48, 64, 3), np.uint8))  # both intervals beside it are made anew
    stop_at.append((0, 2))
    assert main([*words, "--overwrite"]) == 130
    assert made == [(0, 1)]
    made.clear()
    stop_at.clear()
    assert main([*words, "--overwrite"]) == 0
    assert made == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert main([*words, "--overwrite"]) == 0
    assert len(made) == 5
