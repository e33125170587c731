from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rerender.evaluate.looks import apply_look
from rerender.propagate.follow import Key, sample_picture, trust_in_flow
from rerender.propagate.guides import Input, pixel_grid
from rerender.propagate.job import IntervalJob
from rerender.propagate.pieces import OneWay, Relay, pieces_of
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import Swept
from tests.propagate.clips import clip, mse, restyle

SIDE = 64
EVERYWHERE = np.ones((SIDE, SIDE), np.float32)


def scene_key() -> tuple[Key, np.ndarray]:
    frame = clip("translation", 1, SIDE)[0][0]
    return Key.of(frame, restyle(frame)), frame


def test_whole_displacements_copy_pixels_and_nothing_rings():
    key, _ = scene_key()
    moved = sample_picture(key, pixel_grid(SIDE, SIDE) + np.float32([3, -2]))
    assert np.array_equal(moved[4:-4, 4:-4], key.picture[2:-6, 7:-1])
    between = sample_picture(key, pixel_grid(SIDE, SIDE) + np.float32(0.4))
    assert between.min() >= key.picture.min()
    assert between.max() <= key.picture.max()


def test_a_frame_that_did_not_move_is_trusted_all_over():
    key, frame = scene_key()
    assert np.all(trust_in_flow(key, Input.of(frame), pixel_grid(SIDE, SIDE), EVERYWHERE) == 1)


def test_noise_does_not_take_trust_but_another_object_does():
    key, frame = scene_key()
    noise = np.random.default_rng(0).normal(0, 3, frame.shape)
    noisy = np.clip(frame + noise, 0, 255).astype(np.uint8)
    noisy[20:36, 20:36] = 255 - noisy[20:36, 20:36]
    trust = trust_in_flow(key, Input.of(noisy), pixel_grid(SIDE, SIDE), EVERYWHERE)
    assert trust[:12].min() > 0.9
    assert trust[20:36, 20:36].max() == 0


def test_light_that_changed_everywhere_is_no_noise():
    key, frame = scene_key()
    brighter = np.clip(frame.astype(int) + 60, 0, 255).astype(np.uint8)
    trust = trust_in_flow(key, Input.of(brighter), pixel_grid(SIDE, SIDE), EVERYWHERE)
    assert trust[np.all(frame < 190, 2)].max() == 0


def test_what_was_hidden_or_lies_outside_is_not_trusted():
    key, frame = scene_key()
    seen = EVERYWHERE.copy()
    seen[:20] = 0
    places = pixel_grid(SIDE, SIDE)
    places[:, :10, 0] -= 12
    trust = trust_in_flow(key, Input.of(frame), places, seen)
    assert trust[:20].max() == 0
    assert trust[:, :10].max() == 0
    assert trust[40:, 30:].min() == 1


def test_trust_rises_slowly_beside_what_is_not_trusted():
    key, frame = scene_key()
    seen = EVERYWHERE.copy()
    seen[:20] = 0
    trust = trust_in_flow(key, Input.of(frame), pixel_grid(SIDE, SIDE), seen)[:, 30]
    steps = np.diff(trust[18:30])
    assert trust[19] == 0
    assert trust[29] > 0.999
    assert 0 <= steps.min() < steps.max() < 0.4


def test_ink_is_not_trusted_where_its_object_has_left():
    frame = np.full((SIDE, SIDE, 3), 120, np.uint8)
    before, after = frame.copy(), frame.copy()
    before[20:40, 10:26] = after[20:40, 44:60] = 220
    outside = np.zeros((SIDE, SIDE), bool)
    outside[24:36, 29:31] = True  # the input is the same there in both frames; what a style drew there has gone
    key, places = Key.of(before, before), pixel_grid(SIDE, SIDE)
    assert trust_in_flow(key, Input.of(after), places, EVERYWHERE)[outside].max() == 0
    assert trust_in_flow(key, Input.of(after), places, EVERYWHERE, outlines=False)[outside].min() > 0.5
    assert trust_in_flow(key, Input.of(after), places, EVERYWHERE)[56:].min() == 1


@pytest.mark.parametrize("kind", ["translation", "fast"])
def test_outlines_move_with_what_they_surround(kind):
    frames, inked = swept(kind, style=_inked)
    _, left_behind = swept(kind, style=_inked, outline_weight=0)
    truth = _inked(frames[4])
    assert mse(inked[4].picture, truth) < 0.8 * mse(left_behind[4].picture, truth)


def _inked(frame: np.ndarray) -> np.ndarray:
    return apply_look(frame, "comic")


def swept(
    kind: str, style: Callable[[np.ndarray], np.ndarray] = restyle, **settings: float
) -> tuple[list[np.ndarray], dict[int, Swept]]:
    frames, flow = clip(kind, 5, 96)
    chosen = PropagationSettings(preset="fast", threads=1, **settings)  # type: ignore[arg-type]
    job = IntervalJob(frames, style(frames[0]), None)
    (piece,) = pieces_of(job)
    return frames, dict(OneWay(piece, Relay(), chosen, flow, lambda: False).sweep())


@pytest.mark.parametrize("kind", ["translation", "zoom"])
def test_following_is_as_near_to_the_truth_where_it_is_trusted(kind):
    frames, followed = swept(kind)
    _, synthesised = swept(kind, follow=False)
    assert all(result.trust.max() == 0 for result in synthesised.values())
    last = followed[4].trust == 1
    assert last.mean() > 0.1
    truth = restyle(frames[4])[last]
    assert mse(followed[4].picture[last], truth) < 1.05 * mse(synthesised[4].picture[last], truth)
