from __future__ import annotations

import cv2
import numpy as np
import pytest

from rerender.diffusion.lab import match_histograms


def picture(seed=0):
    coarse = np.random.default_rng(seed).integers(40, 215, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


def levels(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(float)


def test_same_picture_stays():
    image = picture()
    assert np.abs(match_histograms(image, image, np.ones((48, 64))).astype(int) - image).max() <= 2


def test_distribution_becomes_the_reference_s():
    image, reference = picture(1), picture(2)
    matched = levels(match_histograms(image, reference, np.ones((48, 64))))
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        np.testing.assert_allclose(
            np.quantile(matched, quantile, axis=0), np.quantile(levels(reference), quantile, axis=0), atol=4
        )


def test_a_colour_cast_is_undone_although_half_is_hidden():
    """The hidden half of the reference is something else; it must not count."""
    truth = picture(1)
    cast = cv2.cvtColor(truth, cv2.COLOR_RGB2LAB).astype(float) * [0.9, 1, 1] + [0, 8, -10]
    cast = cv2.cvtColor(cast.clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    reference, weight = truth.copy(), np.ones((48, 64))
    reference[:, 32:], weight[:, 32:] = 255, 0
    error = np.abs(match_histograms(cast, reference, weight).astype(int) - truth)[:, :32].mean()
    assert error < 0.35 * np.abs(cast.astype(int) - truth)[:, :32].mean()


def test_nothing_visible_changes_nothing():
    image = picture(1)
    assert match_histograms(image, picture(2), np.zeros((48, 64))) is image


@pytest.mark.parametrize(("visible", "inside", "matched"), [(2, 48, False), (3, 48, True), (2, 6, True), (9, 0, False)])
def test_a_twentieth_of_what_is_rendered_must_be_visible(visible, inside, matched):
    """Rows of the picture. A small mask that the reference shows as a whole is enough; nothing of nothing is not."""
    image, weight, style = picture(1), np.zeros((48, 64)), np.zeros((48, 64))
    weight[:visible], style[:inside] = 1, 1
    assert (match_histograms(image, picture(2), weight, style) is not image) == matched
