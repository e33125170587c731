from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerender.diffusion.window import Window, noise_positions, timestep_of_sigma
from rerender.host import ModelCall
from tests.diffusion.toys import ALPHAS, SIGMAS, make_sampling

fractions = st.floats(0, 1, allow_nan=False)


def sampling_of(timesteps: list[int]):
    calls = [ModelCall(step=i, first=True, sigma=float(SIGMAS[t])) for i, t in enumerate(timesteps)]
    return make_sampling("euler", torch.nn.Identity(), calls)


def steps(window: Window, count: int) -> frozenset[int]:
    return window.among([step / count for step in range(count)])


@given(fractions, fractions, st.integers(1, 150))
def test_holds_at_least_one_step_if_start_is_before_end(start, end, count):
    held = steps(Window(start, end), count)
    assert bool(held) == (start < end)
    assert held <= set(range(count))


@given(st.integers(1, 150))
def test_whole_period_holds_each_step(count):
    assert steps(Window(0, 1), count) == set(range(count))


@given(st.integers(1, 150), st.sampled_from([(0, 0.1), (0.5, 0.8), (0.8, 1.0), (0.3, 0.6), (0.55, 0.56)]))
def test_holds_exactly_the_fractions_inside(count, period):
    from fractions import Fraction

    start, end = (Fraction(str(p)) for p in period)
    exact = {s for s in range(count) if start <= Fraction(s, count) < end}
    held = steps(Window(*period), count)
    assert held == (exact or {int(start * count)})


@pytest.mark.parametrize("count", [1, 2, 8, 15, 17])
def test_shape_period_works_at_any_strength(count):
    """Mistake 1 of the reference: at strength 0.75 of 20 steps, 15 run, and the period 0-0.1 must reach them."""
    assert 0 in steps(Window(0, 0.1), count)


def test_neighbouring_periods_share_no_step():
    assert not steps(Window(0.5, 0.8), 15) & steps(Window(0.8, 1.0), 15)


def test_noise_unit_equals_steps_where_timesteps_are_even():
    sampling = sampling_of(list(range(999, 0, -100)))
    assert noise_positions(sampling) == pytest.approx([i / 10 for i in range(10)])
    for start, end in itertools.combinations([tenth / 10 for tenth in range(11)], 2):  # 1 - 0.9 is less than 0.1
        assert Window(start, end, "noise").steps(sampling) == Window(start, end).steps(sampling)


def test_noise_unit_keeps_its_meaning_on_an_uneven_schedule():
    crowded = sampling_of([999, 250, 240, 230, 220])  # all but the first step have little noise left
    assert Window(0.5, 0.8, "noise").steps(crowded) == {1, 2, 3, 4}
    assert Window(0.5, 0.8).steps(crowded) == {3}


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_timestep_of_sigma(timestep):
    assert timestep_of_sigma(float(SIGMAS[timestep]), ALPHAS) == pytest.approx(timestep, abs=1e-6)
