from __future__ import annotations

import numpy as np
import pytest

from rerender.propagate.blend import blend, carry_choice, choose, match_statistics
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.synthesis import Synthesis

PLAIN = PropagationSettings(contrast=False, poisson=False, ghost_check=False)


def side(picture: np.ndarray, error: float | np.ndarray) -> Synthesis:
    errors = np.broadcast_to(np.float32(error), picture.shape[:2]).astype(np.float32)
    return Synthesis(picture, np.zeros((*picture.shape[:2], 2), np.int32), errors)


def noise(seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (24, 30, 3), dtype=np.uint8)


def test_the_choice_weighs_errors_by_the_distance_in_frames():
    error_a, error_b = np.array([[1.0, 3.0, 8.0]]), np.array([[2.0, 2.0, 2.0]])
    assert choose(error_a, error_b, 0.5).tolist() == [[False, True, True]]
    assert choose(error_a, error_b, 0.25).tolist() == [[False, False, True]]
    assert choose(error_a, error_b, 0.75).tolist() == [[True, True, True]]


def test_the_choice_is_symmetric_in_both_directions_and_distances():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 9, (2, 40, 40))
    for alpha in (0.1, 0.3, 0.5, 0.9):
        assert np.array_equal(choose(a, b, alpha), ~choose(b, a, 1 - alpha))


def test_near_a_key_its_own_side_dominates():
    a, b = noise(1), noise(2)
    near_a = blend(side(a, 100), side(b, 100), 0.05, PLAIN).picture.astype(int)
    near_b = blend(side(a, 100), side(b, 100), 0.95, PLAIN).picture.astype(int)
    assert np.abs(near_a - a).mean() < np.abs(near_a - b).mean() / 4
    assert np.abs(near_b - b).mean() < np.abs(near_b - a).mean() / 4


def test_a_direction_with_a_much_larger_error_is_not_mixed_in():
    a, b = noise(1), noise(2)
    mixed = blend(side(a, 10), side(b, 10**6), 0.5, PLAIN).picture.astype(int)
    assert np.abs(mixed - a).max() <= 2


def test_equal_directions_come_back_unchanged_with_every_switch_on():
    a = noise(3)
    result = blend(side(a, 5), side(a, 7), 0.4, PropagationSettings()).picture.astype(int)
    assert np.abs(result - a).max() <= 1


def test_the_latch_keeps_a_pixel_with_the_later_key():
    a, b = noise(1), noise(2)
    latched = np.zeros((24, 30), bool)
    latched[4:8] = True
    result = blend(side(a, 1), side(b, 5), 0.5, PLAIN, latched)
    assert np.array_equal(result.choice, latched)


def test_the_latch_follows_the_flow_and_lets_go_at_holes():
    choice = np.zeros((10, 12), bool)
    choice[4, 5] = True
    flow = np.full((10, 12, 2), (-2.0, 1.0), np.float32)
    holes = np.zeros((10, 12), bool)
    assert np.argwhere(carry_choice(choice, flow, holes)).tolist() == [[3, 7]]
    holes[3, 7] = True
    assert not carry_choice(choice, flow, holes).any()


def test_the_mix_gets_the_mean_and_spread_that_averaging_took():
    a, b = noise(1).astype(np.float32), noise(2).astype(np.float32)
    restored = match_statistics((a + b) / 2, a)
    assert ((a + b) / 2).std() < 0.75 * a.std()
    assert np.allclose(restored.mean((0, 1)), a.mean((0, 1)), atol=1e-2)
    assert np.allclose(restored.std((0, 1)), a.std((0, 1)), atol=1e-2)


@pytest.mark.parametrize("check", [True, False])
def test_a_ghost_is_not_averaged(check):
    a, b = np.full((40, 40, 3), 128, np.uint8), np.full((40, 40, 3), 128, np.uint8)
    a[10:30, 4:18], b[10:30, 22:36] = (230, 30, 30), (230, 30, 30)
    settings = PropagationSettings(contrast=False, poisson=False, ghost_check=check)
    red = blend(side(a, 100), side(b, 110), 0.5, settings).picture[20, 29].astype(int)
    distance = min(np.abs(red - (128, 128, 128)).sum(), np.abs(red - (230, 30, 30)).sum())
    assert (distance < 6) == check


def test_poisson_hides_the_seam_between_two_directions():
    a, b = np.full((32, 64, 3), 100, np.uint8), np.full((32, 64, 3), 112, np.uint8)
    left = np.broadcast_to(np.arange(64) < 32, (32, 64))
    first, second = side(a, np.where(left, 1, 3)), side(b, np.where(left, 3, 1))
    hard = blend(first, second, 0.5, PropagationSettings(poisson=False, contrast=False)).picture.astype(int)
    soft = blend(first, second, 0.5, PropagationSettings(contrast=False)).picture.astype(int)
    assert np.abs(np.diff(soft[16, :, 1])).max() < np.abs(np.diff(hard[16, :, 1])).max()
