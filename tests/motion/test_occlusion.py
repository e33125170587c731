from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rerender.evaluate.scenes import scene
from rerender.motion.flow import FlowPair, flow_estimator
from rerender.motion.occlusion import (
    OcclusionRule,
    colour_distance,
    correspond,
    coverage,
    hidden,
    inconsistent_flow,
    latent_mask,
    match_light,
    soften,
    usual_coverage,
    visibility,
)
from rerender.motion.warp import valid_mask, warp
from tests.motion.cases import layered, picture, zoomed_photograph

RNG = np.random.default_rng(3)


def f1(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def by_consistency_alone(pair):
    return inconsistent_flow(pair, OcclusionRule()) | ~valid_mask(pair.forward)


def test_with_exact_flow_occlusion_is_found_to_the_pixel():
    case = layered(192)
    found = hidden(case.a, case.b, FlowPair(case.forward, case.backward))
    grown = ndimage.binary_dilation(case.hidden_a, iterations=2)
    assert (found & case.hidden_a).sum() > 0.9 * case.hidden_a.sum()  # recall
    assert (found & grown).sum() > 0.9 * found.sum()  # precision, up to the antialiased edge


@pytest.mark.parametrize(("kind", "lag"), [("translation", 4), ("rotation", 4), ("parallax", 4), ("lighting", 4)])
def test_three_witnesses_beat_consistency_alone(kind, lag):
    clip = scene(kind, seed=21, size=(128, 128), frames=2 * lag)
    a, b = clip.frame(lag), clip.frame(0)
    truth = clip.occluded_between(lag, 0)
    dis = flow_estimator()
    pair = FlowPair(dis(a, b), dis(b, a))
    assert f1(hidden(a, b, pair), truth) > f1(by_consistency_alone(pair), truth) + 0.05
    assert f1(hidden(a, b, pair), truth) > 0.45


def test_a_flat_area_is_not_hidden_where_the_flow_is_arbitrary():
    flat = np.full((64, 64, 3), 90, np.uint8)
    pair = FlowPair(*(RNG.normal(0, 3, (64, 64, 2)).astype(np.float32) for _ in range(2)))
    inside = valid_mask(pair.forward)
    assert by_consistency_alone(pair)[inside].mean() > 0.5
    assert not hidden(flat, flat, pair)[inside].any()


def test_another_colour_is_hidden_whatever_the_flow_says():
    a = np.full((64, 64, 3), 90, np.uint8)
    b = a.copy()
    b[20:40, 20:40] = (200, 40, 90)
    still = FlowPair(np.zeros((64, 64, 2), np.float32), np.zeros((64, 64, 2), np.float32))
    found = hidden(a, b, still)
    assert found[22:38, 22:38].all()
    assert not found[:16].any()


def test_what_lies_outside_is_hidden():
    photo = picture("coffee.png")[:96, :96]
    right, left = np.full((96, 96, 2), [10, 0], np.float32), np.full((96, 96, 2), [-10, 0], np.float32)
    found = hidden(photo, np.roll(photo, 10, 1), FlowPair(right, left))
    assert found[:, 86:].all()
    assert not found[:, :82].any()


def test_a_change_of_light_hides_nothing():
    photo = picture("astronaut.png")[50:178, 50:178]
    ramp = np.linspace(0.75, 1.2, 128)[None, :, None] * np.float64([1.05, 1.0, 0.92])
    lit = np.clip(photo * ramp, 0, 255).astype(np.uint8)
    still = FlowPair(np.zeros((128, 128, 2), np.float32), np.zeros((128, 128, 2), np.float32))
    assert hidden(lit, photo, still).mean() < 0.01
    before = np.abs(lit.astype(float) - photo).mean()
    matched = match_light(photo, lit, np.ones((128, 128), bool))
    assert np.abs(lit.astype(float) - matched).mean() < 0.25 * before


def test_coverage_counts_what_lands():
    zero = np.zeros((12, 12, 2), np.float32)
    np.testing.assert_allclose(coverage(zero), 1, atol=1e-6)
    half = np.full((12, 12, 2), [0.5, 0], np.float32)
    np.testing.assert_allclose(coverage(half)[:, 2:], 1, atol=1e-6)
    apart = zero.copy()
    apart[:, 6:, 0] = 4  # the right half moves away: columns 6 to 9 get nothing
    np.testing.assert_allclose(coverage(apart)[:, 7:9], 0, atol=1e-6)
    flow = RNG.normal(0, 2, (30, 40, 2)).astype(np.float32)
    flow[:6], flow[-6:], flow[:, :6], flow[:, -6:] = 0, 0, 0, 0
    np.testing.assert_allclose(coverage(flow).sum(), 30 * 40, rtol=0.02)  # nothing is lost inside


@pytest.mark.parametrize("zoom", [1.0, 1.2, 1.5])
def test_zooming_in_hides_nothing(zoom):
    """The reference is stretched by zoom², so that only 1/zoom² of it lands on each pixel."""
    near = zoomed_photograph(zoom)
    pair = FlowPair(near.forward, near.backward)
    np.testing.assert_allclose(coverage(pair.backward)[8:-8, 8:-8].mean(), 1 / zoom**2, rtol=0.02)
    np.testing.assert_allclose(usual_coverage(pair.forward), 1 / zoom**2, rtol=0.02)
    assert hidden(near.a, near.b, pair).mean() < 0.01


def test_colour_distance_forgives_a_pixel_and_no_more():
    photo = picture("chelsea.png")[50:114, 100:164]
    assert colour_distance(photo, photo).max() == 0
    assert colour_distance(photo, np.roll(photo, 1, 1))[2:-2, 2:-2].max() == 0
    grey = np.full((9, 9, 3), 100, np.uint8)
    np.testing.assert_allclose(colour_distance(grey, grey + np.uint8(30)), 30)


def test_soft_mask_is_its_formula():
    occluded = RNG.random((40, 33)) < 0.01
    grown = ndimage.maximum_filter(occluded.astype(float), 9, mode="nearest")
    expected = np.clip(ndimage.uniform_filter(grown, 9, mode="nearest") + occluded, 0, 1)
    soft = soften(occluded)
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft, expected, atol=1e-6)
    assert (soft[occluded] == 1).all()


def test_latent_mask_takes_the_worst_pixel():
    soft = RNG.random((24, 20)).astype(np.float32)
    mask = latent_mask(soft)
    assert mask.shape == (3, 3)
    assert mask[1, 1] == 1 - soft[8:16, 8:16].max()
    assert mask[2, 2] == 1 - soft[16:, 16:].max()


def test_correspondence_of_a_moved_photograph():
    photo = picture("coffee.png")
    current, reference = photo[100:228, 100:260], photo[92:220, 116:276]  # current(p) = reference(p + (-16, 8))
    found = correspond(flow_estimator(), current, reference)
    assert found.flow.shape == (128, 160, 2)
    assert found.latent_flow.shape == (16, 20, 2)
    assert found.latent_mask.shape == (16, 20)
    np.testing.assert_allclose(np.median(found.latent_flow, (0, 1)), [-2, 1], atol=0.02)
    assert found.occlusion[:, :14].min() == 1  # came in at the left
    assert found.latent_mask[4:-4, 6:-2].mean() > 0.9
    assert found.visible_share == pytest.approx(1 - found.occlusion.mean(), abs=1e-6)
    seen = found.occlusion == 0
    error = np.abs(warp(reference, found.flow).astype(float) - current)[seen].mean()
    assert error < 1.5


def test_visibility_is_between_0_and_1_and_0_where_hidden():
    case = layered(128)
    pair = FlowPair(case.forward, case.backward)
    seen = visibility(case.a, case.b, pair)
    assert seen.dtype == np.float32
    assert seen.min() >= 0
    assert seen.max() == 1
    assert (seen[hidden(case.a, case.b, pair)] == 0).all()


@pytest.mark.parametrize("size", [(8, 8), (9, 21), (1, 1)])
def test_small_and_odd_frames(size):
    photo = picture("coffee.png")[: size[0], : size[1]]
    found = correspond(flow_estimator(), photo, photo)
    assert found.latent_mask.shape == (-(-size[0] // 8), -(-size[1] // 8))
    assert found.visible_share == 1.0
