"""Shape-aware fusion, pixel-aware mixing and AdaIN, against plain implementations of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerender.diffusion.color import ColorAdaIN, adain, weighted_statistics
from rerender.diffusion.edits import edits
from rerender.diffusion.pixel import PixelFusion, kept_noise, mask_edges, mix
from rerender.diffusion.shape import ShapeFusion, fuse_shape
from rerender.diffusion.window import Window
from rerender.host import ModelCall
from tests.diffusion.toys import ALPHAS, ToyDenoiser, ToyUNet, make_sampling, sampling_plan

SHAPE = (1, 4, 4, 6)
WHOLE = Window(0, 1)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


def half_mask(height: int = 4, width: int = 6) -> torch.Tensor:
    mask = torch.zeros(height, width)
    mask[:, : width // 2] = 1
    return mask


# Formulas


def test_shape_fusion_by_cell():
    x0, warped, mask = noise(1), noise(2), torch.rand(4, 6)
    fused = fuse_shape(x0, warped, mask)
    for c, y, x in np.ndindex(4, 4, 6):
        m = mask[y, x]
        assert fused[0, c, y, x] == pytest.approx(float(m * warped[0, c, y, x] + (1 - m) * x0[0, c, y, x]), abs=1e-6)


@pytest.mark.parametrize(("edges", "expected"), [(0.0, 0.926), (1.0, 0.707)])
def test_noise_level_after_mixing(edges, expected):
    """Standard deviation of the noise in units of sigma, inside and at edges (checked numbers of the reference)."""
    size = (1, 4, 256, 256)
    weight = torch.full((256, 256), 0.5)
    kept = kept_noise(weight, 0.9, torch.full((256, 256), edges))
    zero, sigma = torch.zeros(size), 3.0
    y = mix(zero, noise(1, *size), zero, noise(2, *size), sigma, weight, kept)
    assert float(y.std()) / sigma == pytest.approx(expected, abs=0.003)


def test_noise_level_by_the_formula():
    weight = torch.linspace(0, 1, 11)
    kept = kept_noise(weight, 0.9, None)
    for w, r in zip(weight.tolist(), kept.tolist(), strict=True):
        assert r == pytest.approx(max(1 - w, 0.9 * (1 - w * w) ** 0.5), abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_noise_never_grows(w, inner, edge):
    r = float(kept_noise(torch.tensor([[w]]), inner, torch.tensor([[edge]])))
    assert w * w + r * r <= 1 + 1e-5


def test_holes_stay_as_they_are():
    y, x0, sigma = noise(1), noise(2), 2.0
    weight = 0.5 * half_mask()
    kept = kept_noise(weight, 0.9, mask_edges(half_mask()))
    mixed = mix(x0, (y - x0) / sigma, noise(3), noise(4), sigma, weight, kept)
    torch.testing.assert_close(mixed[..., 3:], y[..., 3:])
    assert not torch.allclose(mixed[..., :3], y[..., :3])


def test_edges_are_the_cells_that_touch_a_hidden_one():
    edges = mask_edges(half_mask(5, 9))  # visible columns 0 to 3
    assert edges[2].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_border_of_the_picture_is_no_edge():
    assert mask_edges(torch.ones(3, 3)).sum() == 0


def test_adain_gives_the_reference_statistics():
    """Mean and deviation over the weighted cells, in float64 by hand."""
    x, reference, weight = noise(1), 3 * noise(2) + 1, torch.rand(4, 6)
    result = adain(x, reference, weight)
    for channel in range(4):
        w = weight.double().numpy()
        statistics = []
        for tensor in (result, reference):
            values = tensor[0, channel].double().numpy()
            mean = np.average(values, weights=w)
            statistics.append((mean, np.average((values - mean) ** 2, weights=w) ** 0.5))
        assert statistics[0] == pytest.approx(statistics[1], rel=1e-4, abs=1e-5)


def test_adain_to_itself_changes_nothing():
    x = noise(1)
    torch.testing.assert_close(adain(x, x, torch.rand(4, 6) + 0.01), x)


def test_hidden_areas_do_not_shift_the_colours():
    """Mistake 12: the frame shows half of the anchor, unchanged, and something bright beside it.

    Whole-picture statistics would darken the half that both show; weighted ones leave it exactly as it is.
    """
    anchor = noise(1)
    frame = anchor.clone()
    frame[..., 3:] += 4.0
    result = adain(frame, anchor, half_mask())
    torch.testing.assert_close(result[..., :3], anchor[..., :3])
    whole = adain(frame, anchor, torch.ones(4, 6))
    assert float((whole - anchor)[..., :3].abs().mean()) > 0.3


def test_weighted_statistics_with_equal_weights_are_the_plain_ones():
    x = noise(1)
    mean, deviation = weighted_statistics(x, torch.full((4, 6), 0.3))
    torch.testing.assert_close(mean, x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(deviation, x.std((2, 3), keepdim=True, correction=0))


# Whole samplings against loops written out with the formulas of the method


class Plain:
    """Euler or DDIM with all three edits at given steps, written out step by step without any hook."""

    def __init__(self, name, steps, warped, target, mask, shape_steps, pixel_steps, color_steps):
        self.name, self.steps = name, steps
        self.function, self.levels, _, self.calls = sampling_plan(name, steps)
        self.denoiser = ToyDenoiser(ToyUNet(), "timestep" if name == "ddim" else "sigma")
        self.warped, self.target, self.mask = warped, target, mask
        self.shape_steps, self.pixel_steps, self.color_steps = shape_steps, pixel_steps, color_steps

    def run(self, x):
        x0 = None
        for i in range(self.steps):
            sigma = self.calls[i].sigma
            y = x if self.name == "euler" else x * (1 + sigma**2) ** 0.5
            if i in self.pixel_steps:
                e = (y - x0) / sigma
                w = 0.5 * self.mask
                r = torch.maximum(1 - w, 0.9 * (1 - w**2) ** 0.5)
                n = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7 * 1009 + i + 1))
                y = w * self.target + (1 - w) * x0 + sigma * (w * n + r * e)
            x0, e = self.predict(y, i, sigma)
            if i in self.shape_steps:
                x0 = self.mask * self.warped[i] + (1 - self.mask) * x0
            if i in self.color_steps:
                x0 = self.color(x0, self.warped[i])
            x = self.step(x0, e, i)
        return x

    def predict(self, y, i, sigma):
        if self.name == "euler":
            x0 = self.denoiser(y, torch.tensor([sigma]))
            return x0, (y - x0) / sigma
        t = self.levels[self.steps - i]
        e = self.denoiser(y / (1 + sigma**2) ** 0.5, t[None].float())
        return y - sigma * e, e

    def step(self, x0, e, i):
        """The estimate plus the unchanged noise estimate, at the next level."""
        if self.name == "euler":
            return x0 + float(self.levels[i + 1]) * e
        a = float(ALPHAS[self.levels[self.steps - i - 1]])
        return a**0.5 * x0 + (1 - a) ** 0.5 * e

    def color(self, x0, reference):
        total = self.mask.sum()
        out = []
        for channel in range(4):
            v, ref = x0[0, channel], reference[0, channel]
            m, mr = (v * self.mask).sum() / total, (ref * self.mask).sum() / total
            s = (((v - m) ** 2 * self.mask).sum() / total) ** 0.5
            sr = (((ref - mr) ** 2 * self.mask).sum() / total) ** 0.5
            out.append((v - m) / s * sr + mr)
        return torch.stack(out)[None]


@pytest.mark.parametrize("name", ["euler", "ddim"])
def test_sampling_with_all_edits_equals_the_written_out_loop(name):
    steps, mask = 10, torch.rand(4, 6, generator=torch.Generator().manual_seed(4))
    warped = {i: noise(100 + i) for i in range(steps)}
    target = noise(50)
    start = noise(9) * (14.6 if name == "euler" else 1.0)
    plain = Plain(name, steps, warped, target, mask, {0, 1}, {5, 6, 7}, {8, 9}).run(start.clone())

    function, levels, options, calls = sampling_plan(name, steps)
    unet = ToyUNet()
    denoiser = ToyDenoiser(unet, "timestep" if name == "ddim" else "sigma")
    constraints = [
        ShapeFusion(Window(0, 0.2), warped, mask),
        PixelFusion(Window(0.5, 0.8), lambda x0: target, mask, strength=0.5, inner=0.9, smooth_edges=False, seed=7),
        ColorAdaIN(Window(0.8, 1), warped, mask),
    ]
    with edits(make_sampling(name, denoiser, calls, unet), constraints):
        hooked = function(denoiser, start.clone(), levels, disable=True, **options)
    torch.testing.assert_close(hooked, plain, atol=1e-4, rtol=1e-4)


def pixel(window, target=lambda x0: torch.ones_like(x0), **options):
    defaults = {"strength": 0.5, "inner": 0.9, "smooth_edges": True, "seed": 0}
    return PixelFusion(window, target, torch.ones(4, 6), **{**defaults, **options})


def sample(name, constraints, steps=6):
    function, levels, options, calls = sampling_plan(name, steps)
    unet = ToyUNet()
    denoiser = ToyDenoiser(unet, "timestep" if name == "ddim" else "sigma")
    with edits(make_sampling(name, denoiser, calls, unet), constraints):
        return function(denoiser, noise(9) * (1 if name == "ddim" else 14.6), levels, disable=True, **options)


def test_target_is_made_once_from_the_estimate_at_the_first_masked_step():
    asked, estimates = [], {}

    class Watch(ColorAdaIN):
        def __init__(self):
            super().__init__(WHOLE, {}, torch.ones(4, 6))

        def after(self, index, call, x0):
            estimates[index] = x0.clone()

    def target(x0):
        asked.append(x0.clone())
        return x0

    sample("euler", [pixel(Window(0.5, 1), target), Watch()])
    assert len(asked) == 1
    assert torch.equal(asked[0], estimates[2])  # of call 2, right before step 3 of 6


@pytest.mark.parametrize("steps", [1, 3])
def test_pixel_fusion_from_the_first_step_on(steps):
    """No earlier estimate exists there: the estimate itself is pulled to the target."""
    full = pixel(WHOLE, strength=1.0, inner=0.0)
    result = sample("euler", [full], steps)
    if steps == 1:
        torch.testing.assert_close(result, torch.ones(SHAPE), atol=1e-5, rtol=0)
    half = sample("euler", [pixel(WHOLE)], 1)
    plain = sample("euler", [], 1)
    torch.testing.assert_close(half, 0.5 * plain + 0.5, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun", "ddim", "dpmpp_2m_sde"])
def test_strength_zero_changes_nothing(name):
    torch.testing.assert_close(sample(name, [pixel(WHOLE, strength=0.0)]), sample(name, []), atol=1e-4, rtol=1e-4)


def test_new_noise_repeats_with_the_seed_and_differs_between_calls():
    one, two, other = pixel(WHOLE, seed=1), pixel(WHOLE, seed=1), pixel(WHOLE, seed=2)
    like = torch.zeros(SHAPE)
    assert torch.equal(one.noise(3, like), two.noise(3, like))
    assert not torch.equal(one.noise(3, like), one.noise(4, like))
    assert not torch.equal(one.noise(3, like), other.noise(3, like))


def test_colours_are_left_alone_where_the_anchor_is_hardly_visible():
    mask = torch.zeros(4, 6)
    mask[0, 0] = 1
    adjusted = sample("euler", [ColorAdaIN(WHOLE, {i: noise(i) for i in range(6)}, mask)])
    assert torch.equal(adjusted, sample("euler", []))


def small_mask(cells: int) -> torch.Tensor:
    mask = torch.zeros(4, 6)
    mask.view(-1)[:cells] = 1
    return mask


@pytest.mark.parametrize(("cells", "style", "adjusts"), [
    (1, None, False), (2, None, True), (1, small_mask(3), True), (1, small_mask(24), False), (0, small_mask(0), False),
])  # fmt: skip
def test_colours_are_adjusted_from_a_twentieth_of_what_is_rendered_on(cells, style, adjusts):
    """A small mask that the references show as a whole is enough; nothing of nothing is not."""
    warped = {i: noise(i) for i in range(6)}
    adjusted = sample("euler", [ColorAdaIN(Window(0.8, 1), warped, small_mask(cells), style)])
    assert torch.equal(adjusted, sample("euler", [])) != adjusts


def test_the_colours_of_a_flat_estimate_become_the_references_mean():
    flat, reference = torch.full(SHAPE, 0.3), noise(1)
    found = adain(flat, reference, torch.ones(4, 6))
    torch.testing.assert_close(found, reference.mean((2, 3), keepdim=True).expand(SHAPE), atol=1e-2, rtol=0)


def test_the_change_of_the_estimate_is_what_the_history_must_be_moved_by():
    """Of the estimate w parts are the target now; the rest of the mixing changes noise."""
    mask, target, y, x0, sigma = torch.rand(4, 6), noise(1), noise(2), noise(3), 2.0
    fusion = PixelFusion(WHOLE, lambda _: target, mask, strength=0.6, inner=0.9, smooth_edges=True, seed=0)
    fusion.begin(make_sampling("euler", ToyDenoiser(ToyUNet()), sampling_plan("euler", 2)[3]))
    mixed = fusion.before(1, ModelCall(step=1, first=True, sigma=sigma), y, x0, (y - x0) / sigma)
    expected = 0.6 * mask * target + (1 - 0.6 * mask) * x0
    torch.testing.assert_close(x0 + mixed.shift, expected)


def test_smooth_edges_are_edges_of_the_mask():
    sharp, smooth = pixel_on(half_mask(), smooth_edges=False), pixel_on(half_mask(), smooth_edges=True)
    assert sharp.kept[0].tolist() == pytest.approx([0.9 * 0.75**0.5] * 3 + [1.0] * 3)
    assert smooth.kept[0].tolist() == pytest.approx([0.9 * 0.75**0.5] * 2 + [0.5] + [1.0] * 3)


def pixel_on(mask, **options):
    return PixelFusion(WHOLE, lambda x0: x0, mask, strength=0.5, inner=0.9, seed=0, **options)
