"""What the input frames say about a step: what the frame before did not show, and which surface that belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rerender.motion.flow import FlowPair
from rerender.motion.warp import warp
from rerender.propagate import steps
from rerender.propagate.steps import Step
from tests.propagate.clips import clip

HEIGHT, WIDTH = 24, 48
OBJECT, HOLE = np.s_[:, 20:32], np.s_[:, 14:20]  # the object moves to the right, away from the hole


def still() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH, 2), np.float32)


def filled(
    monkeypatch: pytest.MonkeyPatch, colour_of_object: int, onward: np.ndarray | None, motion: np.ndarray
) -> np.ndarray:
    """What the hole is filled with where the object has 50 and the background 1."""
    holes, frame = np.zeros((HEIGHT, WIDTH), bool), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    holes[HOLE], frame[OBJECT] = True, colour_of_object
    values = np.ones((HEIGHT, WIDTH, 1), np.float32)
    values[OBJECT], values[HOLE] = 50, 99
    monkeypatch.setattr(steps, "hidden", lambda *_: holes)
    return Step.between(frame, frame, FlowPair(motion, -motion), onward).filling.of(values)[HOLE]


def test_a_hole_belongs_to_what_moves_on_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are alike, and the flow to the frame before, which lacks the hole, is the object's there."""
    onward, motion = still(), still()
    onward[OBJECT] = motion[OBJECT] = motion[HOLE] = (6, 0)
    assert np.abs(filled(monkeypatch, 90, onward, -motion) - 1).max() < 0.01


def test_a_hole_belongs_to_what_has_its_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for onward in (still(), None):
        assert np.abs(filled(monkeypatch, 170, onward, still()) - 1).max() < 0.01


def test_holes_are_what_the_frame_before_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, flow = clip("fast", 2, 64)
    motion = FlowPair(flow(frames[1], frames[0]), flow(frames[0], frames[1]))
    usual, asked = steps.hidden, list[Any]()
    monkeypatch.setattr(steps, "hidden", lambda *given: asked.append(given) or usual(*given))
    step = Step.between(frames[1], frames[0], motion, None)
    ((frame, before, between),) = asked
    assert frame is frames[1]
    assert before is frames[0]
    assert between is motion
    assert step.flow is motion.forward
    unlike = np.abs(frames[1].astype(int) - warp(frames[0], motion.forward)).max(2)
    assert step.holes.any()
    assert unlike[step.holes].mean() > 4 * unlike[~step.holes].mean()
