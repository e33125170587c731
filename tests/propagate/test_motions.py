"""Flows and steps, asked for or found ahead by threads."""

from __future__ import annotations

import threading
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rerender.propagate.motions import Motions
from tests.propagate.clips import clip

MOVES = [(here, before) for order in (range(4, 0, -1), range(4)) for before, here in pairwise(order)]


class Counting:
    """Exact flow that counts its pairs; the first one waits for a signal where it is told to."""

    def __init__(self, flow: Any, wait: bool = False) -> None:
        self.flow, self.pairs = flow, list[tuple[int, int]]()
        self.begin = threading.Event()
        if not wait:
            self.begin.set()

    def __call__(self, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        assert self.begin.wait(20)
        self.pairs.append((self.flow._number(reference), self.flow._number(target)))
        return self.flow(reference, target)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_find_the_same_steps_and_each_flow_once(threads: int) -> None:
    frames, exact = clip("fast", 5, 64)
    asked, ahead = Counting(exact), Counting(exact)
    without, with_threads = Motions(frames, asked, [], 0), Motions(frames, ahead, [], threads)
    for motions in (without, with_threads):
        motions.announce(MOVES)
    holes = 0
    for here, before in MOVES:
        mine, theirs = with_threads.step(here, before), without.step(here, before)
        assert mine is not None
        assert theirs is not None
        holes += int(mine.holes.sum())
        for field in fields(mine.filling):
            assert np.array_equal(getattr(mine.filling, field.name), getattr(theirs.filling, field.name))
        assert np.array_equal(mine.flow, theirs.flow)
    assert holes
    assert sorted(ahead.pairs) == sorted(asked.pairs) == sorted([(a, a + d) for a in range(5) for d in (-1, 1)])[1:-1]
    with_threads.close()


def test_nothing_is_found_before_it_is_asked_for_without_threads() -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact)
    motions = Motions(frames, flow, [], 0)
    motions.announce(MOVES)
    assert not flow.pairs
    motions.step(1, 0)
    assert sorted(flow.pairs) == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("threads", [0, 2])
def test_across_a_cut_there_is_no_step(threads: int) -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact)
    motions = Motions(frames, flow, [2], threads)
    motions.announce([(1, 0), (2, 1), (3, 2)])
    assert motions.step(1, 0) is not None
    assert motions.step(2, 1) is None
    assert motions.step(3, 2) is not None
    assert not {(1, 2), (2, 1)} & set(flow.pairs)
    motions.close()


def test_a_failure_in_a_thread_reaches_who_asks() -> None:
    def broken(reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        raise ValueError("no flow")

    motions = Motions(clip("translation", 3, 48)[0], broken, [], 2)
    motions.announce([(1, 0)])
    with pytest.raises(ValueError, match="no flow"):
        motions.step(1, 0)
    motions.close()


def test_who_leaves_early_waits_for_nothing() -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact, wait=True)
    motions = Motions(frames, flow, [], 1)
    motions.announce(MOVES)
    motions.close()
    flow.begin.set()
    motions._pool.shutdown(wait=True)  # type: ignore[union-attr]
    assert len(flow.pairs) <= 2  # the pair that was begun
