"""Metrics of pictures against independent implementations and known differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2lab
from skimage.measure import blur_effect as reference_blur
from skimage.metrics import structural_similarity

from rerender.evaluate.looks import LOOKS, apply_look
from rerender.evaluate.metrics import luma
from rerender.evaluate.picture import blur_effect, colour_shift, correlation, lab, motion_kept, ssim, structure
from rerender.evaluate.scenes import scene
from tests.evaluate.cases import blurred, picture

EVERYWHERE = np.ones((64, 96), bool)


def test_lab_is_that_of_the_standard():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(lab(colours), rgb2lab(colours), atol=0.02)
    np.testing.assert_allclose(lab(np.full((1, 1, 3), 255, np.uint8))[0, 0], [100, 0, 0], atol=1e-9)


def test_colour_shift_is_the_shift_of_the_mean():
    first = picture(1)
    now = (first.astype(int) + np.array([12, 0, -7])).astype(np.uint8)
    shift = colour_shift(now, first.astype(np.float32), EVERYWHERE)
    expected = (rgb2lab(now) - rgb2lab(first)).mean(axis=(0, 1))
    np.testing.assert_allclose(shift, expected, atol=0.02)


def test_ssim_is_that_of_the_paper():
    a, b = luma(picture(1)), luma(blurred([picture(1)], 1.5)[0])
    _, similarity = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    inner = np.zeros_like(EVERYWHERE)
    inner[8:-8, 8:-8] = True
    assert ssim(a, b, inner) == pytest.approx(similarity[inner].mean(), abs=1e-9)
    assert ssim(a, a, EVERYWHERE) == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_blur_effect_is_that_of_the_paper(sigma: float):
    frame = blurred([picture(2, (128, 128))], sigma)[0]
    assert blur_effect(frame) == pytest.approx(reference_blur(luma(frame)), abs=0.01)


def test_blur_effect_grows_with_blur_and_not_with_contrast():
    sharp = scene("translation", 3, (128, 128), 2).frames[0]
    figures = [blur_effect(frame) for sigma in (0, 0.7, 1.5, 3, 6) for frame in blurred([sharp], sigma)]
    assert figures == sorted(figures)
    paler = (sharp // 2 + 64).astype(np.uint8)
    assert blur_effect(paler) == pytest.approx(figures[0], abs=0.03)


def test_correlation_is_pearsons():
    a, b = np.random.default_rng(0).normal(size=(2, 30, 40))
    mask = np.random.default_rng(1).random((30, 40)) < 0.5
    assert correlation(a, a + b, mask) == pytest.approx(np.corrcoef(a[mask], (a + b)[mask])[0, 1])
    assert math.isnan(correlation(a, np.ones_like(a)))


def test_structure_survives_a_look_and_not_another_picture():
    frames = [scene(kind, 9000, (256, 256), 2).frame(0) for kind in ("translation", "lighting", "parallax")]
    kept = [structure(apply_look(f, look), f) for f in frames for look in LOOKS if look != "mosaic"]
    others = [structure(apply_look(frames[i - 1], "oil"), f) for i, f in enumerate(frames)]
    assert np.mean(kept) > 0.6
    assert min(kept) > max(others)
    assert structure(frames[0], frames[0]) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_motion_kept_is_the_share_that_was_kept(share: float):
    flow = np.random.default_rng(0).normal(1, 2, (20, 20, 2)).astype(np.float32)
    assert motion_kept(share * flow, flow, np.ones((20, 20), bool)) == pytest.approx(share, rel=1e-6)


def test_motion_kept_is_not_measured_where_nothing_moves():
    still = np.full((20, 20, 2), 0.1, np.float32)
    assert math.isnan(motion_kept(still, still, np.ones((20, 20), bool)))
