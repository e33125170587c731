from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.propagate.problem import EFFORTS, FORBIDDEN, Guide, build_problem, halve

EFFORT = EFFORTS["fast"]


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def build(style: np.ndarray, guide: Guide, **options: object):
    return build_problem(style, [guide], effort=EFFORT, **options)  # type: ignore[arg-type]


@given(
    patch=st.sampled_from([3, 5, 7]),
    weights=st.lists(st.floats(0.01, 50), min_size=2, max_size=5),
    style_weight=st.floats(0.1, 10),
)
@settings(max_examples=25, deadline=None)
def test_the_largest_possible_error_fits_into_31_bits(patch, weights, style_weight):
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    guides = [Guide(black, white, weight) for weight in weights]
    problem = build_problem(black, guides, effort=EFFORT, patch=patch, style_weight=style_weight)
    differences = problem.factors * 255
    assert np.all(np.rint(differences) < 2**15)
    assert patch**2 * np.sum(np.rint(differences) ** 2) < 2**31 - 1
    assert problem.unit(problem.levels[-1]) * patch**2 <= FORBIDDEN


def test_an_integer_error_is_the_weighted_error_times_the_squared_scale():
    style, source, target = picture(20, 24, 3, 1), picture(20, 24, 2, 2), picture(20, 24, 2, 3)
    problem = build(style, Guide(source, target, 4.0))
    level = problem.levels[-1]
    packed = level.source[7, 9, 3:5].astype(float) - level.target[5 + 2, 4 + 2, 3:5].astype(float)
    exact = 4.0 / 2 * np.sum((source[7, 9].astype(float) - target[5, 4]) ** 2)
    assert np.sum(packed**2) / problem.scale**2 == pytest.approx(exact, rel=0.01)


def test_the_pyramid_stops_before_patches_no_longer_fit_and_repeats_odd_edges():
    style = picture(45, 61)
    problem = build(style, Guide(style, picture(37, 80), 1.0))
    shapes = [level.target_shape for level in problem.levels]
    assert shapes == [(19, 40), (37, 80)]
    assert [level.source.shape[:2] for level in problem.levels] == [(23, 31), (45, 61)]


def test_halving_means_two_by_two_pixels():
    image = np.arange(15, dtype=np.float32).reshape(3, 5, 1)
    assert halve(image)[..., 0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def test_masks_shrink_to_what_is_allowed_throughout_and_wanted_anywhere():
    style = picture(48, 48)
    source_mask, target_mask = np.ones((48, 48), bool), np.zeros((48, 48), bool)
    source_mask[0, 0] = False
    target_mask[47, 47] = True
    problem = build(style, Guide(style, style, 1.0), source_mask=source_mask, target_mask=target_mask)
    coarse = problem.levels[0]
    assert coarse.barrier[0, 0] == FORBIDDEN
    assert coarse.barrier[0, 1] == 0
    assert coarse.wanted.sum() == 1
    assert coarse.wanted[-1, -1] == 1


@pytest.mark.parametrize(
    ("style", "guide", "message"),
    [
        (picture(20, 20), Guide(picture(20, 21), picture(20, 20), 1), "source of"),
        (picture(20, 20), Guide(picture(20, 20), picture(20, 20, 2), 1), "same channels"),
        (picture(20, 20, 5), Guide(picture(20, 20), picture(20, 20), 1), "1–4 channels"),
        (picture(20, 20).astype(np.float32), Guide(picture(20, 20), picture(20, 20), 1), "uint8"),
        (picture(20, 20), Guide(picture(20, 20, 25), picture(20, 20, 25), 1), "25 channels"),
        (picture(20, 20), Guide(picture(20, 20), picture(8, 20), 1), "too small"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(style, guide, message):
    with pytest.raises(UserError, match=message):
        build(style, guide)


def test_24_guide_channels_and_4_style_channels_are_possible():
    problem = build(picture(20, 20, 4), Guide(picture(20, 20, 24), picture(20, 20, 24), 1))
    assert problem.levels[-1].source.shape[2] == 32


@pytest.mark.parametrize("patch", [1, 4, 9])
def test_patches_that_no_backend_has_are_refused(patch):
    with pytest.raises(UserError, match=f"Patches of {patch} pixels"):
        build(picture(40, 40), Guide(picture(40, 40), picture(40, 40), 1), patch=patch)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight of guide 1", "style_weight", "uniformity"])
def test_weights_that_are_no_weights_are_refused(name, wrong):
    first, second = (Guide(picture(20, 20), picture(20, 20), 1) for _ in range(2))
    options = {} if name.startswith("weight") else {name: wrong}
    second = replace(second, weight=wrong if not options else 1)
    with pytest.raises(UserError, match=f"{name} is {wrong}"):
        build_problem(picture(20, 20), [first, second], effort=EFFORT, **options)


@pytest.mark.parametrize("tolerance", [0.0, 2.0, 3.0])
def test_a_pixel_has_moved_when_a_channel_changed_by_the_whole_tolerance(tolerance):
    style = picture(20, 20)
    problem = build_problem(style, [Guide(style, style, 1.0)], effort=replace(EFFORT, tolerance=tolerance), patch=7)
    exact = tolerance * problem.scale * np.sqrt(1 / 3)
    assert problem.thresholds().tolist() == [np.ceil(exact)] * 3


def test_guides_are_clipped_to_the_scale():
    values = np.linspace(-300, 600, 20 * 24, dtype=np.float32).reshape(20, 24)
    wide, clipped = (
        build(picture(20, 24), Guide(each, each, 2.0)).levels[-1] for each in (values, values.clip(0, 255))
    )
    assert np.array_equal(wide.source, clipped.source)
    assert np.array_equal(wide.target, clipped.target)
