from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rerender.motion import warp as module
from rerender.motion.warp import (
    compose_flow,
    downscale_flow,
    round_half_up,
    valid_mask,
    warp,
    warp_latent,
)

RNG = np.random.default_rng(7)
BORDERS = ("edge", "reflect", "zero")


def keys_kernel(distance):
    """Keys (1981), equation 4 with a = -1/2."""
    d = abs(distance)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def plain_warp(image, flow, mode, border):
    """The definition, pixel by pixel in float64."""
    height, width = image.shape[:2]

    def pixel(x, y):
        if border == "zero" and not (0 <= x < width and 0 <= y < height):
            return np.zeros_like(image[0, 0], dtype=np.float64)
        if border == "reflect":
            while not 0 <= x < width:
                x = -x if x < 0 else 2 * (width - 1) - x
            while not 0 <= y < height:
                y = -y if y < 0 else 2 * (height - 1) - y
        return image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)].astype(np.float64)

    out = np.zeros((*flow.shape[:2], *image.shape[2:]))
    for i in range(flow.shape[0]):
        for j in range(flow.shape[1]):
            x, y = j + float(flow[i, j, 0]), i + float(flow[i, j, 1])
            if mode == "nearest":
                out[i, j] = pixel(int(np.floor(x + 0.5)), int(np.floor(y + 0.5)))
                continue
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            if mode == "bicubic":
                for ys, xs in itertools.product(range(y0 - 1, y0 + 3), range(x0 - 1, x0 + 3)):
                    out[i, j] += keys_kernel(y - ys) * keys_kernel(x - xs) * pixel(xs, ys)
                continue
            for ys, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
                for xs, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                    out[i, j] += wy * wx * pixel(xs, ys)
    return out


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_warp_is_its_definition(mode, border):
    image = RNG.random((9, 7, 3)).astype(np.float32)
    flow = RNG.normal(0, 4, (9, 7, 2)).astype(np.float32)
    np.testing.assert_allclose(warp(image, flow, mode, border), plain_warp(image, flow, mode, border), atol=1e-5)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_latent_warp_is_the_same_warp(mode, border):
    z = RNG.normal(size=(2, 4, 6, 11)).astype(np.float32)
    flow = (RNG.integers(-12, 12, (6, 11, 2)) / 4).astype(np.float32)  # quarters: full of ties
    out = warp_latent(torch.from_numpy(z), flow, mode, border).numpy()
    for b in range(2):
        expected = plain_warp(np.moveaxis(z[b], 0, -1), flow, mode, border)
        np.testing.assert_allclose(np.moveaxis(out[b], 0, -1), expected, atol=1e-5)


def test_latent_warp_agrees_with_grid_sample_with_aligned_corners():
    z = torch.from_numpy(RNG.normal(size=(1, 4, 8, 10)))
    flow = RNG.uniform(-3, 3, (8, 10, 2)).astype(np.float32)
    ys, xs = np.mgrid[0:8, 0:10]
    grid = np.stack([(xs + flow[..., 0]) / 9 * 2 - 1, (ys + flow[..., 1]) / 7 * 2 - 1], -1)[None]
    expected = torch.nn.functional.grid_sample(
        z, torch.from_numpy(grid).double(), padding_mode="border", align_corners=True
    )
    torch.testing.assert_close(warp_latent(z, flow, "bilinear"), expected, atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(dx=st.integers(-9, 9), dy=st.integers(-9, 9), dtype=st.sampled_from([np.uint8, np.float32, np.float64]))
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_whole_displacements_move_whole_pixels(mode, dx, dy, dtype):
    image = (RNG.random((12, 15, 3)) * 255).astype(np.float32).astype(dtype)
    flow = np.broadcast_to(np.float32([dx, dy]), (12, 15, 2))
    rows, columns = np.clip(np.arange(12) + dy, 0, 11), np.clip(np.arange(15) + dx, 0, 14)
    moved = warp(image, flow, mode)
    assert moved.dtype == dtype
    np.testing.assert_array_equal(moved, image[rows][:, columns])
    z = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    latent = warp_latent(z, flow.copy(), mode)
    np.testing.assert_array_equal(latent[0].permute(1, 2, 0).numpy(), image[rows][:, columns])


@pytest.mark.parametrize("width", [64, 1023, 4096])
def test_nearest_takes_the_exact_pixel_at_any_width(width):
    """Normalised float32 coordinates lose the neighbours of a tie in wide pictures; this warp must not."""
    image = np.arange(width, dtype=np.float32)[None]
    for shift, expected in ((0.5, 1), (-0.5, 0), (0.49999997, 0), (-0.50000006, -1), (1.5, 2), (2.4999998, 2)):
        flow = np.zeros((1, width, 2), np.float32)
        flow[..., 0] = shift
        wanted = np.clip(np.arange(width) + expected, 0, width - 1)
        np.testing.assert_array_equal(warp(image, flow, "nearest")[0], wanted)
        latent = warp_latent(torch.from_numpy(image)[None, None], flow, "nearest")
        np.testing.assert_array_equal(latent[0, 0, 0].numpy(), wanted)


@given(hnp.arrays(np.float32, 20, elements=st.floats(-1000, 1000, width=32)))
def test_rounding_is_to_the_nearest_with_ties_up(values):
    exact = np.floor(values.astype(np.float64) + 0.5)  # exact: float64 holds float32 + 0.5 in this range
    np.testing.assert_array_equal(round_half_up(values), exact)


def test_whole_number_pictures_are_rounded_not_cut_off():
    image = np.array([[0, 255]], np.uint8)
    flow = np.full((1, 2, 2), [0.75, 0], np.float32)
    assert warp(image, flow)[0, 0] == 191  # 191.25


def test_masks_and_flows_can_be_warped_too():
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    moved = warp(mask, np.full((5, 5, 2), [1, 0], np.float32), "nearest")
    assert moved.dtype == bool
    assert np.argwhere(moved).tolist() == [[2, 2]]


def test_latent_warp_is_differentiable_and_keeps_the_type():
    z = torch.ones(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    warp_latent(z, np.full((4, 4, 2), [0.25, 0], np.float32), "bilinear").sum().backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad[0, 0, 0].numpy(), [0.75, 1, 1, 1.25])
    half = warp_latent(z.detach().half(), np.zeros((4, 4, 2), np.float32), "bilinear")
    assert half.dtype == torch.float16


def test_valid_mask_follows_the_edges_of_the_picture():
    flow = np.zeros((4, 6, 2), np.float32)
    flow[..., 0] = 2.0
    np.testing.assert_array_equal(valid_mask(flow), np.tile(np.arange(6) + 2 <= 5, (4, 1)))
    flow[..., 0] = 0.4
    assert valid_mask(flow).all()
    assert not valid_mask(flow, margin=0.0)[:, -1].any()
    assert valid_mask(flow, size=(4, 7), margin=0.0).all()


def test_composition_of_two_turns_is_the_turn_by_both_angles():
    def turn(degrees):
        ys, xs = np.mgrid[0:81, 0:81].astype(np.float64) - 40
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        return np.stack([c * xs - s * ys - xs, s * xs + c * ys - ys], -1).astype(np.float32)

    both = compose_flow(turn(4), turn(3))
    inner = valid_mask(turn(4), margin=0.0)
    np.testing.assert_allclose(both[inner], turn(7)[inner], atol=1e-4)  # affine flow: bilinear is exact


def test_downscaled_flow_is_the_block_mean_in_latent_pixels():
    flow = RNG.normal(0, 10, (24, 16, 2)).astype(np.float32)
    small = downscale_flow(flow)
    assert small.shape == (3, 2, 2)
    np.testing.assert_allclose(small[1, 1], flow[8:16, 8:16].reshape(-1, 2).mean(0) / 8, rtol=1e-4)
    constant = np.full((13, 20, 2), [8, -16], np.float32)
    np.testing.assert_array_equal(downscale_flow(constant), np.full((2, 3, 2), [1, -2], np.float32))


def test_a_latent_moves_with_its_picture():
    """Moving a picture by 8 px and shrinking it is shrinking it and moving by one latent pixel."""
    picture = RNG.random((64, 64)).astype(np.float32)
    flow = np.full((64, 64, 2), [8, -16], np.float32)

    def shrink(p):
        return p.reshape(8, 8, 8, 8).mean((1, 3))

    moved_latent = warp_latent(torch.from_numpy(shrink(picture))[None, None], downscale_flow(flow))[0, 0].numpy()
    inside = (slice(2, None), slice(0, -1))
    np.testing.assert_allclose(moved_latent[inside], shrink(warp(picture, flow))[inside], atol=1e-6)


def test_bicubic_moves_whole_pixels_exactly_and_stays_in_range():
    image = np.where(RNG.random((12, 12, 3)) > 0.5, 255, 0).astype(np.uint8)
    moved = warp(image, np.full((12, 12, 2), 3, np.float32), "bicubic")
    assert np.array_equal(moved[:9, :9], image[3:, 3:])
    halfway = warp(image, np.full((12, 12, 2), 0.5, np.float32), "bicubic").astype(int)
    smooth = warp(image.astype(np.float64), np.full((12, 12, 2), 0.5, np.float32), "bicubic")
    assert smooth.min() < 0
    assert smooth.max() > 255
    assert np.abs(halfway - np.clip(smooth, 0, 255)).max() <= 0.5


def test_bicubic_keeps_more_of_a_fine_texture():
    x = np.arange(64, dtype=np.float64)
    image = np.tile(np.sin(0.3 * 2 * np.pi * x), (8, 1))
    truth = np.sin(0.3 * 2 * np.pi * (x + 0.5))[8:-8]
    flow = np.tile(np.float32([0.5, 0.0]), (8, 64, 1))
    errors = {mode: np.abs(warp(image, flow, mode)[4, 8:-8] - truth).max() for mode in ("bilinear", "bicubic")}
    assert errors["bicubic"] < 0.65 * errors["bilinear"]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (13, 21)])
@pytest.mark.parametrize("form", [((), np.uint8), ((1,), np.float32), ((2,), np.float32), ((3,), np.uint8)])
def test_compiled_sampling_has_numpys_bits(monkeypatch, size, form):
    rng = np.random.default_rng(0)
    (channels, dtype), flow = form, rng.normal(0, 6, (*size, 2)).astype(np.float32)
    flow.flat[: flow.size // 3] = rng.integers(-4, 5, flow.size // 3)
    flow[0, 0] = 1e12, -1e12
    image = rng.integers(0, 256, (*size, *channels)).astype(dtype)
    assert module._compiled() is not None
    made = warp(image, flow)
    monkeypatch.setattr(module, "_compiled", lambda: None)
    expected = warp(image, np.clip(flow, -(2.0**30), 2.0**30))
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made, expected)


def test_without_numba_numpy_samples(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerender.motion.sampling", None)
    module._compiled.cache_clear()
    try:
        assert module._compiled() is None
        assert warp(np.arange(4.0, dtype=np.float32)[None], np.ones((1, 4, 2), np.float32)).tolist() == [[1, 2, 3, 3]]
    finally:
        module._compiled.cache_clear()
