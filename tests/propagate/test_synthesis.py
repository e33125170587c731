from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rerender.errors import UserError
from rerender.propagate.problem import EFFORTS, Guide
from rerender.propagate.synthesis import Synthesis, synthesize
from tests.propagate.clips import clip, restyle


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.uint8)


def run(style: np.ndarray, *guides: Guide, **options: object) -> Synthesis:
    return synthesize(style, guides, effort=EFFORTS["fast"], **options)  # type: ignore[arg-type]


def test_a_target_that_is_a_piece_of_the_source_is_copied():
    image = texture(64, 72)
    result = run(restyle(image), Guide(image, image[8:48, 12:60], 6.0), uniformity=0.0)
    assert np.mean(np.abs(result.picture.astype(int) - restyle(image)[8:48, 12:60])) < 3
    y, x = np.mgrid[0:40, 0:48]
    exact = (result.nnf[..., 0] == x + 12) & (result.nnf[..., 1] == y + 8)
    assert exact[4:-4, 4:-4].mean() > 0.85


def test_the_error_is_that_of_the_final_picture_on_the_0_255_scale():
    image, target = texture(40, 44), texture(36, 48, 1)
    style = restyle(image)
    result = run(style, Guide(image, target, 6.0))
    y, x = 20, 21
    sx, sy = result.nnf[y, x]
    patch = (slice(sy - 2, sy + 3), slice(sx - 2, sx + 3))
    here = (slice(y - 2, y + 3), slice(x - 2, x + 3))
    style_part = np.sum((style[patch].astype(float) - result.picture[here]) ** 2) / 3
    guide_part = np.sum((image[patch].astype(float) - target[here]) ** 2) * 6 / 3
    assert result.error[y, x] == pytest.approx(style_part + guide_part, rel=0.02)


@pytest.mark.parametrize("channels", [None, 1, 2, 4])
def test_styles_of_1_to_4_channels_and_of_another_size_than_the_target(channels):
    image = texture(40, 52)
    style = image[..., 0] if channels is None else np.repeat(image[..., :1], channels, 2)
    result = run(style, Guide(image[..., 0], texture(33, 29)[..., 0], 2.0))
    assert result.picture.shape == ((33, 29) if channels is None else (33, 29, channels))
    assert result.picture.dtype == np.uint8
    assert result.nnf.shape == (33, 29, 2)
    assert result.error.shape == (33, 29)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads():
    image, target = texture(80, 60), texture(76, 64, 1)
    results = [run(image, Guide(image, target, 2.0), threads=threads, seed=5) for threads in (1, 3, 2)]
    for other in results[1:]:
        assert np.array_equal(results[0].picture, other.picture)
        assert np.array_equal(results[0].nnf, other.nnf)
        assert np.array_equal(results[0].error, other.error)
    assert not np.array_equal(results[0].nnf, run(image, Guide(image, target, 2.0), seed=6).nnf)


def test_every_patch_comes_from_inside_the_source_and_the_mask():
    image = texture(48, 48)
    mask = np.zeros((48, 48), bool)
    mask[:, 20:] = True
    result = run(image, Guide(image, np.roll(image, 9, 1), 2.0), source_mask=mask)
    assert result.nnf[..., 0].min() >= 20
    assert result.nnf.min() >= 2
    assert result.nnf.max() <= 45


def test_only_the_wanted_part_is_searched_and_it_is_as_good():
    image = texture(48, 48)
    wanted = np.zeros((48, 48), bool)
    wanted[10:30, 12:40] = True
    result = run(restyle(image), Guide(image, image, 6.0), target_mask=wanted, uniformity=0.0)
    difference = np.abs(result.picture.astype(int) - restyle(image)).mean(2)
    assert difference[wanted].mean() < 3


def test_occupancy_spreads_the_source_over_a_target_that_could_take_one_place():
    style = np.random.default_rng(0).integers(100, 140, (48, 48, 3)).astype(np.uint8)
    flat = Guide(np.full((48, 48), 128), np.full((48, 48), 128), 1.0)
    one_place = np.full((48, 48, 2), 20, np.int32)
    results = [run(style, flat, uniformity=u, start=one_place) for u in (0.0, 3500.0)]
    used = [len(np.unique(result.nnf.reshape(-1, 2), axis=0)) for result in results]
    assert used[1] > 1.5 * used[0]


def test_a_start_near_the_answer_is_kept():
    frames, flow = clip("translation", 2)
    exact = flow(frames[1], frames[0])
    y, x = np.mgrid[0:64, 0:64]
    start = np.rint(np.stack([x, y], -1) + exact).astype(np.int32)
    style = restyle(frames[0])
    warm = run(style, Guide(frames[0], frames[1], 6.0), start=start, start_levels=1)
    cold = run(style, Guide(frames[0], frames[1], 6.0))
    truth = restyle(frames[1]).astype(float)
    assert np.mean((warm.picture - truth) ** 2) <= np.mean((cold.picture - truth) ** 2) * 1.25


def test_a_target_moved_by_half_a_pixel_is_met_at_half_a_pixel():
    smooth = cv2.GaussianBlur(np.random.default_rng(3).normal(128, 500, (48, 60, 3)).astype(np.float32), (0, 0), 2.0)
    image = smooth.clip(0, 255)
    moved = cv2.warpAffine(
        image, np.array([[1, 0, 0.5], [0, 1, 0.25]]), (60, 48), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    style, truth = (255 - picture for picture in (image, moved))
    guide = Guide(image, moved, 6.0)
    errors = [
        np.abs(run(np.rint(style).astype(np.uint8), guide, subpixel=on, uniformity=0.0).picture - truth)[
            4:-4, 4:-4
        ].mean()
        for on in (False, True)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_guide_that_does_not_refine_has_no_say_between_the_pixels():
    smooth = cv2.GaussianBlur(np.random.default_rng(3).normal(128, 500, (48, 60)).astype(np.float32), (0, 0), 2.0)
    image = smooth.clip(0, 255)
    moved = cv2.warpAffine(
        image, np.array([[1, 0, 0.5], [0, 1, 0.25]]), (60, 48), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    style, truth = np.rint(255 - image).astype(np.uint8), 255 - moved
    right, still = Guide(image, moved, 6.0), Guide(image, image, 12.0)
    errors = [
        np.abs(run(style, right, replace(still, refines=refines), uniformity=0.0).picture - truth)[4:-4, 4:-4].mean()
        for refines in (True, False)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_float_and_int16_guides_keep_more_than_8_bits():
    ramp = np.linspace(0, 255, 64, dtype=np.float32)[None].repeat(40, 0)
    style = np.random.default_rng(1).integers(0, 256, (40, 64), dtype=np.uint8)
    result = run(style, Guide(ramp / 16, ramp / 16, 200.0), uniformity=0.0, style_weight=1e-6)
    x = np.arange(64)[None]
    assert np.abs(result.nnf[..., 0] - x)[:, 2:-2].mean() < 0.2


@pytest.mark.parametrize("start", [np.zeros((12, 40, 2), np.int32), np.zeros((40, 40, 2), np.float32)])
def test_a_start_that_does_not_fit_is_refused_before_it_is_followed(start):
    image = texture(40, 40)
    with pytest.raises(UserError, match=r"\(40, 40, 2\) of int32"):
        run(image, Guide(image, image, 1.0), start=start)
