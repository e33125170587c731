"""Known faults give the figures that follow from the definitions, and more of a fault gives a higher figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.evaluate.clip import EstimatedMotion, SceneMotion, flicker, long_range_warp_error, sharpness, warp_error
from rerender.evaluate.metrics import flicker_residual, laplacian_variance, luma, masked_mean
from rerender.evaluate.scenes import scene
from tests.evaluate.cases import Panning, added, blurred, noisy, panning, picture

FRAMES = panning(6)
MOTION = Panning()


def test_a_perfect_result_has_no_error_at_all():
    assert warp_error(FRAMES, MOTION) == 0
    assert long_range_warp_error(FRAMES, MOTION) == 0
    assert flicker(FRAMES, MOTION) == 0


def test_alternating_brightness_measures_what_was_injected():
    """±a: neighbours differ by 2a, so 4a²; the second difference is 2a, scaled by sqrt(2/3)."""
    a = 6.0
    clip = added(FRAMES, [a, -a] * 3)
    assert warp_error(clip, MOTION) == pytest.approx(4 * a**2)
    assert flicker(clip, MOTION) == pytest.approx(a * math.sqrt(8 / 3))
    # Frames 1, 3, 5 differ from the first by 2a, frames 2 and 4 not at all.
    assert long_range_warp_error(clip, MOTION) == pytest.approx(4 * a**2 * 3 / 5)


def test_a_steady_drift_is_no_flicker_but_shows_against_the_first_frame():
    """d levels a frame: neighbours d², to the first frame the mean of (d i)²."""
    d = 4
    clip = added(FRAMES, [d * i for i in range(6)])
    assert flicker(clip, MOTION) == pytest.approx(0, abs=1e-9)
    assert warp_error(clip, MOTION) == pytest.approx(d**2)
    assert long_range_warp_error(clip, MOTION) == pytest.approx(d**2 * np.mean([1, 4, 9, 16, 25]))


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_measures_its_standard_deviation(sigma: float):
    """Independent noise: flicker σ, warp error 2σ² (and 1/12 of a level² each from rounding)."""
    clip = noisy(panning(6, size=(128, 128)), sigma)
    rounded = sigma**2 + 1 / 12
    assert flicker(clip, MOTION) == pytest.approx(math.sqrt(rounded), rel=0.02)
    assert warp_error(clip, MOTION) == pytest.approx(2 * rounded, rel=0.02)


def test_a_shift_is_measured_along_the_true_motion():
    """A clip that stands still under a source that pans: the error is that of the picture against itself, shifted."""
    still = [FRAMES[0]] * 4
    a, b = FRAMES[0][:, 2:].astype(float), FRAMES[0][:, :-2].astype(float)
    assert warp_error(still, MOTION, FRAMES[:4]) == pytest.approx(np.mean((a - b) ** 2))


def test_blur_of_the_in_betweens_lowers_sharpness_by_the_known_factor():
    keys = [0, 3]
    soft = blurred(FRAMES[:4], 1.5)
    clip = [FRAMES[0], soft[1], soft[2], FRAMES[3]]
    expected = []
    for i in (1, 2):
        # Columns that both frames show; the Laplacian is taken before the choice.
        inner = (slice(None), slice(None, 96 - 2 * i)), (slice(None), slice(2 * i, None))
        expected.append(_laplacian(clip[i])[inner[0]].var() / _laplacian(clip[0])[inner[1]].var())
    assert sharpness(clip, keys, MOTION) == pytest.approx(np.mean(expected), rel=1e-6)
    assert sharpness(clip, keys, MOTION) < 0.6
    assert sharpness(FRAMES[:4], keys, MOTION) == pytest.approx(1, abs=0.15)


def _laplacian(frame: np.ndarray) -> np.ndarray:
    y = np.pad(luma(frame), 1, mode="reflect")
    return y[2:, 1:-1] + y[:-2, 1:-1] + y[1:-1, 2:] + y[1:-1, :-2] - 4 * y[1:-1, 1:-1]


def test_laplacian_variance_is_that_of_its_definition():
    frame = picture(3)
    assert laplacian_variance(frame) == pytest.approx(_laplacian(frame).var())


@pytest.mark.parametrize("metric", [warp_error, flicker, long_range_warp_error])
def test_more_noise_gives_a_higher_figure(metric):
    figures = [metric(noisy(FRAMES, sigma), MOTION) for sigma in (0.0, 1.0, 3.0, 6.0, 12.0)]
    assert figures == sorted(figures)
    assert figures[0] == 0 < figures[1]


def test_more_blur_gives_less_sharpness():
    def result(sigma: float) -> float:
        soft = blurred(FRAMES, sigma)
        return sharpness([FRAMES[0], *soft[1:5], FRAMES[5]], [0, 5], MOTION)

    figures = [result(sigma) for sigma in (0.0, 0.6, 1.0, 2.0, 4.0)]
    assert figures == sorted(figures, reverse=True)


def test_exact_and_estimated_motion_agree_about_noise():
    clip = scene("translation", 1, (96, 96), 4)
    shaken = noisy(clip.frames, 8)
    exact = warp_error(shaken, SceneMotion(clip))
    estimated = warp_error(shaken, EstimatedMotion(), clip.frames)
    assert estimated == pytest.approx(exact, rel=0.1)


def test_hidden_pixels_do_not_count():
    clip = scene("fast", 2, (96, 96), 3)
    spoilt = [frame.copy() for frame in clip.frames]
    for i, frame in enumerate(spoilt):
        unseen = np.ones(clip.size, bool)
        for j in {i - 1, i + 1} & {0, 1, 2}:
            unseen &= clip.occluded_between(i, j)
        # Bilinear samples of the neighbours must not reach the spoilt pixels either: take their inside.
        unseen = unseen & np.roll(unseen, 1, 0) & np.roll(unseen, 1, 1)
        frame[unseen] = 255 - frame[unseen]
    assert np.any(spoilt[0] != clip.frames[0])
    seen = warp_error(clip.frames, SceneMotion(clip))
    assert warp_error(spoilt, SceneMotion(clip)) < 1.5 * seen + 20


def test_a_pair_that_shares_nothing_is_not_counted():
    clip = scene("cut", 1, (64, 64), 4)
    within = [warp_error(clip.frames[a:b], EstimatedMotion()) for a, b in ((0, 2), (2, 4))]
    assert warp_error(clip.frames, SceneMotion(clip)) < 3 * max(within) + 30
    assert math.isnan(warp_error([clip.frames[1], clip.frames[2]], _Nothing()))


class _Nothing(Panning):
    def between(self, i, j, a, b):
        motion = super().between(i, j, a, b)
        return motion.within(np.zeros(a.shape[:2], bool), np.zeros(a.shape[:2], bool))


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-20, 20))
@settings(max_examples=30, deadline=None)
def test_flicker_is_the_scaled_second_difference(before: float, now: float, after: float):
    ones, everywhere = np.ones((8, 8)), np.ones((8, 8), bool)
    figure = flicker_residual(before * ones, now * ones, after * ones, everywhere)
    assert figure == pytest.approx(math.sqrt(2 / 3) * abs(now - (before + after) / 2), abs=1e-9)


def test_too_few_pixels_give_no_figure():
    mask = np.zeros((100, 100), bool)
    mask[:4] = True
    assert math.isnan(masked_mean(np.ones((100, 100)), mask))
    mask[:6] = True
    assert masked_mean(np.ones((100, 100)), mask) == 1
