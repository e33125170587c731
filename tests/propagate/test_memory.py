"""What an interval is said to take, and how many workers that leaves."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from rerender.motion.flow import flow_estimator
from rerender.propagate import PropagationSettings, parallel, pieces, propagate_all, propagate_interval
from rerender.propagate.memory import interval_memory
from rerender.propagate.pieces import PIECE

GIB = 2**30

SIDE = 64


class Read:
    """Frames that are made when they are asked for, as those of a video are."""

    def __init__(self, count: int, still: bool = False) -> None:
        self.count, self.still = count, still

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> list[np.ndarray]:
        wanted = range(self.count)[part]
        seeds = [0 if self.still else each for each in wanted]
        return [np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8) for seed in seeds]


def peak(count: int, keys: tuple[bool, bool], still: bool = False) -> int:
    """Bytes that were taken at most, the input frames included."""
    tracemalloc.start()
    settings = PropagationSettings(preset="fast", threads=1, device="cpu")
    ends = [Read(count, still)[at:][0] if given else None for at, given in zip((0, count - 1), keys, strict=True)]
    made = sum(1 for _ in propagate_interval(Read(count, still), *ends, settings, flow=flow_estimator("dis_fast")))
    assert made == count - sum(keys)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken


def test_a_frame_more_between_two_keys_takes_what_is_said() -> None:
    peak(3, (True, True))  # what is compiled or kept for good
    measured = peak(20, (True, True)) - peak(10, (True, True))
    told = interval_memory(20, SIDE, SIDE) - interval_memory(10, SIDE, SIDE)
    assert 0.6 * told < measured < 1.1 * told


@pytest.mark.parametrize("keys", [(True, False), (False, True)])
def test_a_frame_more_beside_a_single_key_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    peak(3, keys, still=True)  # what is synthesised takes more here, less there: where all is followed nothing is
    more = peak(50, keys, still=True) - peak(10, keys, still=True)
    assert more < 10 * 3 * SIDE * SIDE  # of 40 frames; what garbage waits for its collector differs by some


def test_what_an_interval_with_a_single_key_is_said_to_take_ends_with_a_piece() -> None:
    told = [interval_memory(frames, SIDE, SIDE, one_way=True) for frames in (5, PIECE + 2, PIECE + 3, 1000)]
    assert told[0] < told[1] == told[2] == told[3]


@pytest.mark.parametrize(("memory", "workers"), [(GIB, 8), (5 * GIB, 3), (40 * GIB, 1)])
def test_workers_fit_into_memory(monkeypatch: pytest.MonkeyPatch, memory: int, workers: int) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 8)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))
    assert parallel.default_workers(memory) == workers


def test_who_knows_the_memory_of_an_interval_gets_workers_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    monkeypatch.setattr(parallel, "default_workers", lambda memory: asked.append(memory) or 1)
    settings = PropagationSettings(device="cpu")
    for options in ({"memory": 5}, {}, {"memory": 6, "workers": 1}):
        list(propagate_all([], settings, **options))
    assert asked == [5, parallel._USUAL]
