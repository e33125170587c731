"""Flows and steps, asked for or found ahead by threads."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rerender.propagate import motions as motions_module
from rerender.propagate.lookout import Lookout, one_ahead
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
    lookout = Lookout(threads)
    without, with_threads = Motions(frames, asked, []), Motions(frames, ahead, [], lookout)
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
    assert not with_threads._pairs  # each flow is dropped after its last use
    assert not without._pairs
    lookout.close()


def test_nothing_is_found_before_it_is_asked_for_without_threads() -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact)
    motions = Motions(frames, flow, [])
    motions.announce(MOVES)
    assert not flow.pairs
    motions.step(1, 0)
    assert sorted(flow.pairs) == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_step_knows_the_flow_both_ways_and_that_to_the_frame_after_it(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    frames, exact = clip("rotation", 3, 48)
    lookout = Lookout(threads)
    motions = Motions(frames, exact, [], lookout)
    moves = [(1, 2), (0, 1), (1, 0), (2, 1)]
    given = list[Any]()
    monkeypatch.setattr(motions_module.Step, "between", lambda *each: given.append(each))
    motions.announce(moves)
    for here, before in moves:
        motions.step(here, before)
        frame, other, motion, onward = next(
            each for each in given if each[0] is frames[here] and each[1] is frames[before]
        )
        after, between = 2 * here - before, exact.clip.flow_between
        assert frame is frames[here]
        assert other is frames[before]
        assert np.array_equal(motion.forward, between(here, before))
        assert np.array_equal(motion.backward, between(before, here))
        assert (onward is None) == (after not in range(3))
        assert onward is None or np.array_equal(onward, between(here, after))
    lookout.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_across_a_cut_there_is_no_step(threads: int) -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact)
    lookout = Lookout(threads)
    motions = Motions(frames, flow, [2], lookout)
    motions.announce([(1, 0), (2, 1), (3, 2)])
    assert motions.step(1, 0) is not None
    assert motions.step(2, 1) is None
    assert motions.step(3, 2) is not None
    assert not {(1, 2), (2, 1)} & set(flow.pairs)
    lookout.close()


def test_a_failure_in_a_thread_reaches_who_asks() -> None:
    def broken(reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        raise ValueError("no flow")

    lookout = Lookout(2)
    motions = Motions(clip("translation", 3, 48)[0], broken, [], lookout)
    motions.announce([(1, 0)])
    with pytest.raises(ValueError, match="no flow"):
        motions.step(1, 0)
    lookout.close()


def test_who_leaves_early_waits_for_nothing() -> None:
    frames, exact = clip("translation", 5, 48)
    flow = Counting(exact, wait=True)
    lookout = Lookout(1)
    motions = Motions(frames, flow, [], lookout)
    motions.announce(MOVES)
    lookout.close()
    lookout.taken()  # makes room for nothing
    flow.begin.set()
    lookout._pool.shutdown(wait=True)  # type: ignore[union-attr]
    assert len(flow.pairs) <= 2  # the pair that was begun


def test_threads_stay_within_the_room_and_in_order() -> None:
    frames, exact = clip("translation", 9, 48)
    flow = Counting(exact)
    lookout = Lookout(1)
    motions = Motions(frames, flow, [], lookout)
    motions.announce([(number + 1, number) for number in range(8)])
    for number in range(8):
        lookout.submit(bool).result()  # all that was begun before is done
        begun = min(number + 3, 8)  # two for one thread, and one more
        assert sorted({min(pair) for pair in flow.pairs}) == list(range(min(begun + 1, 8)))
        assert sorted(motions._steps) == [(each + 1, each) for each in range(number, begun)]
        assert all(step.done() for step in motions._steps.values())
        assert motions.step(number + 1, number) is not None
    lookout.close()


def test_no_thread_waits_for_a_flow_that_another_one_measures() -> None:
    """Two flows at once with two threads, though the first step needs both of them."""
    frames, exact = clip("translation", 5, 48)
    together = threading.Barrier(2, timeout=20)

    def flow(reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        if exact._number(reference) < exact._number(target):
            together.wait()
        return exact(reference, target)

    lookout = Lookout(2)
    motions = Motions(frames, flow, [], lookout)
    motions.announce([(number + 1, number) for number in range(4)])
    assert all(motions.step(number + 1, number) is not None for number in range(4))
    lookout.close()


def test_a_flow_does_not_keep_the_steps_that_were_made_of_it() -> None:
    frames, exact = clip("translation", 5, 48)
    lookout = Lookout(2)
    motions = Motions(frames, Counting(exact), [], lookout)
    motions.announce(MOVES)
    gc.collect()
    gc.disable()
    try:
        step = weakref.ref(motions.step(3, 4))
        assert step() is None
        assert motions._pairs  # they are still needed on the way forward
    finally:
        gc.enable()
        lookout.close()


def test_what_is_asked_for_out_of_turn_is_found_all_the_same() -> None:
    frames, exact = clip("translation", 9, 48)
    flow = Counting(exact)
    lookout = Lookout(1)
    motions = Motions(frames, flow, [], lookout)
    moves = [(number + 1, number) for number in range(8)]
    motions.announce(moves)
    assert all(motions.step(*move) is not None for move in reversed(moves))
    assert lookout._room == 3  # nothing is left that takes room
    lookout.close()


def test_one_ahead_makes_the_next_item_meanwhile_and_raises_in_turn() -> None:
    made, errors = list[int](), threading.Event()

    def items() -> Iterator[int]:
        for number in range(2):
            made.append(number)
            yield number
        errors.set()
        raise ValueError("no more")

    results = one_ahead(items())
    assert next(results) == 0
    assert next(results) == 1
    assert errors.wait(20)
    with pytest.raises(ValueError, match="no more"):
        next(results)
    assert made == [0, 1]


def test_one_ahead_waits_for_its_thread_when_it_is_left() -> None:
    begun, finished = threading.Event(), list[int]()

    def items() -> Iterator[int]:
        yield 0
        begun.set()
        time.sleep(0.05)
        finished.append(1)
        yield 1

    results = one_ahead(items())
    next(results)
    assert begun.wait(20)
    results.close()
    assert finished == [1]
