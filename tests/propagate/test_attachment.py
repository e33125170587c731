from __future__ import annotations

import numpy as np
import pytest

from rerender.evaluate.looks import apply_look
from rerender.propagate import attachment, sweep
from rerender.propagate.attachment import shared_motion
from rerender.propagate.guides import Input
from tests.propagate.clips import mse
from tests.propagate.test_follow import swept

SIDE, MOVED = 64, 7


def moving_square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A key frame, a frame in which a bright square lies 7 pixels further right, and the exact flow to the key."""
    key = np.random.default_rng(0).integers(98, 103, (SIDE, SIDE, 3), dtype=np.uint8)
    frame, flow = key.copy(), np.zeros((SIDE, SIDE, 2), np.float32)
    key[20:44, 12:32] = 200
    frame[20:44, 12 + MOVED : 32 + MOVED] = 200
    flow[20:44, 12 + MOVED : 32 + MOVED, 0] = -MOVED
    return key, frame, flow


def test_what_is_near_an_object_goes_with_it_and_what_is_far_stays():
    key, frame, flow = moving_square()
    number = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE, 1)
    motion, moved = shared_motion(Input.of(key), Input.of(frame), np.concatenate([flow, number], 2))
    beside = np.zeros((SIDE, SIDE), bool)
    beside[24:40, 32 + MOVED : 35 + MOVED] = True  # on the background, where an outline of the square may be drawn
    assert np.all(moved[beside])
    assert np.all(motion[beside][:, 0] == -MOVED)
    assert not moved[:8].any()
    assert not moved[:, 52:].any()
    inside = np.s_[26:38, 18 + MOVED : 26 + MOVED]
    assert not moved[inside].any()
    y, x = np.divmod(motion[..., 2], SIDE)  # what goes with the flow comes from the same neighbour
    assert np.array_equal(flow[y.astype(int), x.astype(int)], motion[..., :2])
    assert np.array_equal(motion[~moved][:, :2], flow[~moved])


def test_without_motion_nothing_is_taken_from_a_neighbour():
    key, _, flow = moving_square()
    _, moved = shared_motion(Input.of(key), Input.of(key), np.zeros_like(flow))
    assert not moved.any()


@pytest.mark.parametrize(("own", "taken"), [(1.4, False), (1.6, True)])
def test_a_neighbours_motion_has_to_be_better_by_a_level_and_a_half(
    monkeypatch: pytest.MonkeyPatch, own: float, taken: bool
):
    key, _, flow = moving_square()
    costs = iter([own, *[0.0] * 8])
    monkeypatch.setattr(attachment, "_unlike", lambda *_: np.full((SIDE, SIDE), next(costs), np.float32))
    _, moved = shared_motion(Input.of(key), Input.of(key), flow)
    assert np.all(moved == taken)


def test_outlines_are_nearer_to_the_look_than_along_the_flow_of_what_they_lie_on(monkeypatch: pytest.MonkeyPatch):
    def inked(frame: np.ndarray) -> np.ndarray:
        return apply_look(frame, "comic")

    frames, made = swept("translation", style=inked)
    monkeypatch.setattr(
        sweep, "shared_motion", lambda key, here, motion: (motion, np.zeros(motion.shape[:2], np.bool_))
    )
    _, along = swept("translation", style=inked)
    errors = [np.mean([mse(clip[n].picture, inked(frames[n])) for n in range(2, 5)]) for clip in (made, along)]
    assert errors[0] < 0.97 * errors[1]
