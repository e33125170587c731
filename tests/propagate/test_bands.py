from __future__ import annotations

import cv2
import numpy as np
import pytest

from rerender.propagate import bands
from rerender.propagate.bands import synthesize_in_bands
from rerender.propagate.guides import pixel_grid
from rerender.propagate.problem import EFFORTS, Guide
from rerender.propagate.synthesis import synthesize
from tests.propagate.clips import mse, restyle

HEIGHT, WIDTH = 200, 40


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).normal(128, 300, (HEIGHT + 10, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2).clip(0, 255).astype(np.uint8)
    return smooth[:HEIGHT], smooth[6 : HEIGHT + 6]


@pytest.mark.parametrize("given", [True, False])
def test_bands_are_as_good_as_a_whole_synthesis(pictures, given, monkeypatch):
    monkeypatch.setattr(bands, "_REACH", 16)
    source, target = pictures
    start = np.clip(pixel_grid(HEIGHT, WIDTH) + np.array([0, 4]), 0, HEIGHT - 1).astype(np.int32) if given else None
    style, guides = restyle(source), [Guide(source, target, 6.0)]
    options = {"effort": EFFORTS["fast"], "threads": 1, "start": start, "start_levels": 2}
    whole = synthesize(style, guides, **options)
    banded = synthesize_in_bands(synthesize, 3, style, guides, **options)
    assert banded.picture.shape == whole.picture.shape
    assert banded.nnf.shape == whole.nnf.shape
    assert banded.error.shape == whole.error.shape
    alike = source[banded.nnf[..., 1], banded.nnf[..., 0]].astype(int) - target  # the field is one of the whole source
    assert np.abs(alike[4:-12, 4:-4]).mean() < 3
    assert mse(banded.picture, restyle(target)) < 1.1 * mse(whole.picture, restyle(target)) + 1
    seams = [HEIGHT // 3, HEIGHT * 2 // 3]
    for seam in seams:
        rows = slice(seam - 3, seam + 3)
        assert (
            mse(banded.picture[rows], restyle(target)[rows]) < 1.5 * mse(whole.picture[rows], restyle(target)[rows]) + 5
        )


def test_a_band_without_a_wanted_pixel_keeps_its_start(pictures):
    source, _ = pictures
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[:20] = True
    start = np.clip(pixel_grid(HEIGHT, WIDTH), 2, (WIDTH - 3, HEIGHT - 3)).astype(np.int32)
    made = synthesize_in_bands(
        synthesize, 3, restyle(source), [Guide(source, source, 6.0)], start=start, start_levels=1, target_mask=wanted,
        effort=EFFORTS["fast"], threads=1,
    )  # fmt: skip
    assert np.array_equal(made.nnf[100:], start[100:])
    inner = slice(100, -5), slice(5, -5)
    assert np.abs(made.picture[inner].astype(int) - restyle(source)[inner]).max() <= 2


def test_each_band_keeps_to_what_is_allowed_of_the_source(pictures, monkeypatch):
    monkeypatch.setattr(bands, "_REACH", 16)
    source, target = pictures
    allowed = np.ones((HEIGHT, WIDTH), bool)
    allowed[:, 12:20] = False
    start = np.clip(pixel_grid(HEIGHT, WIDTH) + np.array([0, 4]), 0, HEIGHT - 1).astype(np.int32)
    made = synthesize_in_bands(
        synthesize, 3, restyle(source), [Guide(source, target, 6.0)], start=start, start_levels=2, source_mask=allowed,
        effort=EFFORTS["fast"], threads=1,
    )  # fmt: skip
    assert allowed[made.nnf[..., 1], made.nnf[..., 0]].mean() > 0.99


def test_small_pictures_are_not_cut(pictures):
    source, target = (picture[:60] for picture in pictures)
    asked = []

    def record(*arguments, **options):
        asked.append(arguments[0].shape[0])
        return synthesize(*arguments, **options)

    synthesize_in_bands(record, 8, restyle(source), [Guide(source, target, 6.0)], effort=EFFORTS["fast"], threads=1)
    assert asked == [60]
