"""What an interval is said to take, and how many workers that leaves."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from rerender.motion.flow import flow_estimator
from rerender.propagate import PropagationSettings, parallel, propagate_all, propagate_interval
from rerender.propagate.memory import interval_memory

GIB = 2**30

SIDE = 64


def peak(count: int, both: bool) -> int:
    """Bytes that were taken at most, the input frames included."""
    tracemalloc.start()
    frames = [np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8) for number in range(count)]
    settings = PropagationSettings(preset="fast", threads=1, device="cpu")
    last = frames[-1] if both else None
    made = sum(1 for _ in propagate_interval(frames, frames[0], last, settings, flow=flow_estimator("dis_fast")))
    assert made == count - 1 - both
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken


@pytest.mark.parametrize("both", [True, False])
def test_a_frame_more_takes_what_is_said(both: bool) -> None:
    peak(3, both)  # what is compiled or kept for good
    measured = peak(20, both) - peak(10, both)
    told = interval_memory(20, SIDE, SIDE, from_last=both) - interval_memory(10, SIDE, SIDE, from_last=both)
    assert measured < 1.1 * told
    if both:
        assert measured > 0.6 * told


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
