from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.propagate.holes import plan_filling


def fill_holes(values: np.ndarray, holes: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    return plan_filling(holes, likeness).of(values)


def test_a_hole_takes_the_surface_that_it_is_like():
    values = np.zeros((30, 40, 2), np.float32)
    values[:, 20:] = 7
    likeness = values[..., :1].copy()
    holes = np.zeros((30, 40), bool)
    holes[5:25, 14:24] = True
    broken = values.copy()
    broken[holes] = 99
    assert np.allclose(fill_holes(broken, holes, likeness), values, atol=0.05)


def test_a_hole_behind_an_object_is_filled_from_the_background_alone():
    values = np.ones((20, 40, 1), np.float32)
    values[:, :15] = 50  # the object
    alike = np.where(np.arange(40) < 15, 10.0, 0.0)[None, :, None].repeat(20, 0).astype(np.float32)
    holes = np.zeros((20, 40), bool)
    holes[:, 15:22] = True  # opened behind it: nearest to the object, like the background
    assert np.abs(fill_holes(values, holes, alike)[holes] - 1).max() < 0.01


@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_what_is_known_stays_and_what_is_filled_lies_between(seed, share):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-5, 5, (12, 14, 2)).astype(np.float32)
    holes = rng.uniform(size=(12, 14)) < share
    filled = fill_holes(values, holes, rng.normal(size=(12, 14, 3)).astype(np.float32))
    assert np.array_equal(filled[~holes], values[~holes])
    if not holes.all():
        known = values[~holes]
        assert np.all(filled >= known.min(0) - 1e-4)
        assert np.all(filled <= known.max(0) + 1e-4)


def test_a_pixel_is_the_mean_of_its_24_neighbours_by_likeness_and_distance():
    rng = np.random.default_rng(0)
    values, likeness = rng.uniform(0, 9, (9, 9, 2)).astype(np.float32), rng.normal(0, 0.7, (9, 9, 3)).astype(np.float32)
    holes = np.zeros((9, 9), bool)
    holes[4, 5] = True
    total, weights = np.zeros(2), 0.0
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            if (dy, dx) != (0, 0):
                difference = np.sum((likeness[4 + dy, 5 + dx].astype(float) - likeness[4, 5]) ** 2)
                weight = 2**-difference / (dy**2 + dx**2)
                total, weights = total + weight * values[4 + dy, 5 + dx], weights + weight
    assert np.allclose(fill_holes(values, holes, likeness)[4, 5], total / weights, rtol=1e-4)
