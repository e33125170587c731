"""Detail fusion: against a plain implementation of its formula, and what it must leave alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rerender.diffusion.bank import FeatureSlot
from rerender.evaluate.metrics import laplacian_variance
from rerender.motion.flow import FlowPair
from rerender.motion.occlusion import Correspondence, correspondence
from rerender.motion.warp import downscale_flow
from rerender.outlines import outline_picture
from rerender.translate.detail import coarse_weight, fine_weight, fuse_detail, mix_bands, steady
from rerender.translate.frames import Link, Reference
from rerender.translate.gates import agreement, evenness, inkless, usability, visibility

RNG = np.random.default_rng(3)
SIZE = (40, 48)


def texture(seed: int = 0) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(60, 200, (*SIZE, 3)).astype(np.float32)
    return cv2.GaussianBlur(rough, (0, 0), 0.8).round().astype(np.uint8)


def shift(x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.broadcast_to(np.float32([x, y]), (*SIZE, 2)).copy()


SOURCE = np.full((*SIZE, 3), 120, np.uint8)
"""One colour: the sources are alike wherever they are looked at."""

OTHER = np.tile(np.repeat(np.uint8([20, 235]), 6)[None, :, None], (SIZE[0], SIZE[1] // 12, 3))
"""Stripes: a source that is alike nowhere, whatever the light."""


def link(
    picture: np.ndarray,
    flow: np.ndarray | None = None,
    hidden: np.ndarray | None = None,
    source: np.ndarray = SOURCE,
) -> Link:
    flow = shift() if flow is None else flow
    hidden = np.zeros(SIZE, bool) if hidden is None else hidden
    soft = hidden.astype(np.float32)
    where = Correspondence(flow, soft, hidden, downscale_flow(flow, 8), np.ones((5, 6), np.float32))
    return Link(Reference(0, source, picture, {}, FeatureSlot("cpu")), where)


def fuse(picture: np.ndarray, *links: Link, strength: float = 1.0, tolerance: float = 24.0) -> np.ndarray:
    return fuse_detail(picture, SOURCE, links, strength=strength, tolerance=tolerance)


def without_outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerender.translate.detail.inkless", lambda *_: np.ones(SIZE, np.float32))


@pytest.fixture
def no_outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if stripes had no outlines."""
    without_outlines(monkeypatch)


# Formula


def kernel(sigma: float) -> np.ndarray:
    """Of cv2.GaussianBlur for float pictures: about 4 sigma to each side."""
    reach = (round(sigma * 8 + 1) | 1) // 2
    x = np.arange(-reach, reach + 1)
    values = np.exp(-(x**2) / (2 * sigma**2))
    return values / values.sum()


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    weights = kernel(sigma)
    reach = len(weights) // 2
    for axis in (0, 1):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (reach, reach)
        padded = np.pad(values, pad, mode="edge")
        values = np.apply_along_axis(lambda line: np.convolve(line, weights, "valid"), axis, padded)
    return values


def around(values: np.ndarray, take) -> np.ndarray:
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    return take([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


def step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)
    return 3 * t**2 - 2 * t**3


def plain_gates(decoded, warped, source, warped_source, hidden, flow, tolerance):
    """V, U, agreement and evenness in float64, without OpenCV; no light to match, nothing outside."""
    visible = 1 - smooth(around(hidden.astype(float), np.max), 1.5)
    apart = smooth(np.abs(source.astype(float) - warped_source).mean(2), 2.0)
    usable = np.maximum(visible, np.exp(-((apart / 8) ** 2)))
    off = np.abs(smooth(usable[..., None] * (warped - decoded), 4.0)).max(2) / np.maximum(smooth(usable, 4.0), 1e-3)
    parts = [np.gradient(flow[..., c].astype(float), axis=a) for c in (0, 1) for a in (0, 1)]
    deviation = np.sqrt(sum((part - smooth(part, 8.0)) ** 2 for part in parts))
    even = smooth(around(np.exp(-(deviation**2)), np.min), 1.5)
    return visible, usable, np.exp(-((off / tolerance) ** 2)), even


def test_fusion_is_its_formula(monkeypatch):
    monkeypatch.setattr("rerender.translate.gates.match_light", lambda warped, current, trusted: warped)
    monkeypatch.setattr("rerender.translate.gates.valid_mask", lambda flow: np.ones(flow.shape[:2], bool))
    monkeypatch.setattr("rerender.translate.gates.warp", lambda picture, flow: picture)
    decoded, warped = texture(1).astype(np.float32), texture(2).astype(np.float32) + 6
    source, other = texture(3), np.clip(texture(3) + np.arange(48)[:, None] // 3, 0, 255).astype(np.uint8)
    hidden = np.zeros(SIZE, bool)
    hidden[5:20, 10:40] = True
    flow = cv2.GaussianBlur(RNG.normal(0, 20, (*SIZE, 2)).astype(np.float32), (0, 0), 4)
    visible, usable, agreed, even = plain_gates(decoded, warped, source, other, hidden, flow, 12.0)
    assert 0.1 < even.mean() < 0.9
    assert np.any((usable > visible + 0.1) & (usable < 0.9))

    found = usability(source, other, flow, hidden)
    np.testing.assert_allclose(found, usable, atol=2e-3)
    np.testing.assert_allclose(agreement(decoded, warped, found, 12.0), agreed, atol=2e-3)
    coarse, fine = coarse_weight(found, agreed), fine_weight(visibility(hidden), agreed, evenness(flow))
    np.testing.assert_allclose(coarse, smooth(step(usable * agreed, 0.1, 0.5), 2.0), atol=2e-3)
    np.testing.assert_allclose(fine, step(visible * agreed * even, 0.2, 0.7), atol=2e-3)

    off = (warped - decoded).astype(float)
    far = smooth(usable[..., None] * off, 2.0) / smooth(usable, 2.0)[..., None]
    expected = decoded + coarse[..., None] * far + fine[..., None] * (off - far)
    np.testing.assert_allclose(mix_bands(decoded, warped, found, coarse, fine), expected, atol=0.1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_previous_first_then_the_anchor_on_top(strength):
    """All alike from afar and still: every weight is `strength`."""
    decoded, previous, anchor = (np.full((*SIZE, 3), level, np.uint8) for level in (100, 101, 103))
    fused = fuse(decoded, link(previous), link(anchor), strength=strength, tolerance=255)
    half = 100 + strength * (101 - 100)
    assert np.all(fused == np.rint(half + strength * (103 - half)))


# What it does


def test_brings_back_what_a_blur_took():
    sharp = texture()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.0)
    fused = fuse(blurred, link(sharp))
    assert laplacian_variance(blurred) < 0.1 * laplacian_variance(sharp)
    assert np.array_equal(fused, sharp)


def test_follows_the_flow():
    sharp = texture()
    moved = np.roll(sharp, (0, -3), (0, 1))
    fused = fuse(cv2.GaussianBlur(moved, (0, 0), 2.0), link(sharp, shift(3)))
    assert np.array_equal(fused[:, :40], moved[:, :40])


# What it leaves alone


def test_hidden_areas_stay(no_outlines):
    hidden = np.zeros(SIZE, bool)
    hidden[:, 24:] = True
    decoded = cv2.GaussianBlur(texture(), (0, 0), 2.0)
    fused = fuse(decoded, link(texture(), hidden=hidden, source=OTHER))
    assert np.array_equal(fused[:, 31:], decoded[:, 31:])
    assert not np.array_equal(fused[:, :20], decoded[:, :20])


def test_hidden_areas_of_the_same_colour_take_coarse_structure_alone():
    """As in flat areas, where flow finds nothing to hold on to: fine texture of a hidden place is not the frame's."""
    hidden = np.zeros(SIZE, bool)
    hidden[:, 16:] = True
    decoded, wanted = texture(0), np.clip(texture(1).astype(int) + 20, 0, 255).astype(np.uint8)
    fused = fuse(decoded, link(wanted, hidden=hidden), tolerance=255).astype(float)[:, 24:]
    decoded, wanted = decoded[:, 24:].astype(float), wanted[:, 24:].astype(float)
    coarse_error = np.abs(smooth(fused - wanted, 4.0)).mean() / np.abs(smooth(decoded - wanted, 4.0)).mean()
    fine_error = np.abs((fused - decoded) - smooth(fused - decoded, 2.0)).mean()
    assert coarse_error < 0.3
    assert fine_error < 0.2 * np.abs((wanted - decoded) - smooth(wanted - decoded, 2.0)).mean()


def test_what_changes_on_purpose_stays():
    """A patch that is brighter by 60 levels is no loss of detail."""
    sharp = texture()
    decoded = cv2.GaussianBlur(sharp, (0, 0), 2.0)
    decoded[10:30, 24:] += 60
    fused = fuse(decoded, link(sharp), tolerance=24)
    assert np.array_equal(fused[16:24, 36:], decoded[16:24, 36:])
    assert np.array_equal(fused[:, :8], sharp[:, :8])


def test_what_lies_behind_hidden_pixels_does_not_count_as_disagreement(no_outlines):
    sharp = texture()
    hidden = np.zeros(SIZE, bool)
    hidden[:, 24:] = True
    wrong = sharp.copy()
    wrong[:, 24:] = 255
    assert np.array_equal(fuse(sharp, link(wrong, hidden=hidden, source=OTHER))[:, :20], sharp[:, :20])
    decoded = cv2.GaussianBlur(sharp, (0, 0), 2.0)
    fused = fuse(decoded, link(wrong, hidden=hidden, source=OTHER))
    assert np.array_equal(fused[:, :20], sharp[:, :20])


def with_object(x: int, ink: int | None = None) -> np.ndarray:
    """A light square on grey, 2 pixels of ink around it."""
    picture = np.full((*SIZE, 3), 120, np.uint8)
    if ink is not None:
        picture[12:26, x - 2 : x + 14] = ink
    picture[14:24, x : x + 12] = 200
    return picture


def test_ink_does_not_stay_where_its_object_has_left(monkeypatch):
    """Outside of the object flow and colours are those of the background, but the ink there was the object's."""
    before, after, old, new = 6, 30, np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    old[14:24, before : before + 12] = new[14:24, after : after + 12] = True
    flow = shift()
    flow[new] = [before - after, 0]
    reference = link(with_object(before, ink=60), flow, hidden=old, source=with_object(before))
    outside = np.zeros(SIZE, bool)
    outside[12:26, 4:20] = ~old[12:26, 4:20]
    decoded = with_object(after, ink=60)

    def darkest() -> float:
        fused = fuse_detail(decoded, with_object(after), [reference], strength=1, tolerance=32)
        return float(fused[outside].min())

    assert darkest() > 110
    without_outlines(monkeypatch)
    assert darkest() < 80


def test_ink_is_looked_for_where_an_outline_was_and_is_no_more():
    gone = inkless(with_object(30), with_object(6), shift())
    assert gone[12:26, 4:6].max() == 0
    assert gone[12:26, 26:].min() == 1  # what has come is told by the pictures, not here
    nearly = inkless(with_object(30), with_object(30), shift(1.5))
    assert nearly.min() == 1  # the flow is off by a pixel or two


def test_inkless_is_its_formula():
    source, reference = np.repeat(np.kron(RNG.integers(0, 255, (2, 5, 6, 1)), np.ones((1, 8, 8, 1))), 3, 3)
    here, there = (outline_picture(frame.astype(np.uint8)).astype(float) for frame in (source, reference))
    grown = around(around(here, np.max), np.max)  # twice 3×3 is 5×5
    apart = np.pad(np.maximum(there - grown, 0), 1, mode="reflect")
    mean = sum(apart[y : y + 40, x : x + 48] for y in range(3) for x in range(3)) / 9
    expected = around(around(1 - step(mean, 30, 90), np.min), np.min)
    assert 0.1 < expected.mean() < 0.9
    found = inkless(source.astype(np.uint8), reference.astype(np.uint8), shift())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fine_texture_does_not_follow_a_torn_flow():
    """Along the outline of what moves: no hard edge where the flow jumps, and coarse structure all the same."""
    flow = shift()
    flow[:, 24:] = [8.0, 0.0]
    decoded = cv2.GaussianBlur(texture(), (0, 0), 2.0)
    fused = fuse(decoded, link(texture() + np.uint8(20), flow), tolerance=255)
    moved = fused.astype(float) - decoded
    fine = np.abs(moved - smooth(moved, 2.0)).mean(axis=(0, 2))
    assert fine[23:25].max() < 0.3 * fine[:10].mean()
    assert moved[:, 23:25].mean() > 15


@pytest.mark.parametrize("matrix", [[[0, 0], [0, 0]], [[0.4, 0], [0, 0.4]], [[-0.2, -0.5], [0.5, -0.2]]])
def test_a_zoom_or_turn_is_even(matrix):
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    flow = (np.stack([xs, ys], -1) @ np.array(matrix).T + 2).astype(np.float32)
    assert evenness(flow).min() > 0.999


def test_a_flow_of_one_row_is_even():
    assert np.array_equal(evenness(np.zeros((1, 8, 2), np.float32)), np.ones((1, 8)))


def test_ripples_go_and_jumps_stay():
    flow = shift()
    flow[:, 24:] = [8.0, -8.0]
    rippled = flow + RNG.normal(0, 0.3, flow.shape).astype(np.float32)
    calmed = steady(rippled)
    assert np.abs(calmed - flow).mean() < 0.4 * np.abs(rippled - flow).mean()
    assert np.abs(calmed - flow)[:, 22:26].max() < 1.0


def test_correspondence_knows_the_mask_without_its_rim():
    picture = texture()
    pair = FlowPair(forward=shift(-10), backward=shift(10))
    found = correspondence(np.roll(picture, 10, 1), picture, pair)
    assert found.hidden[:, :9].all()
    assert not found.hidden[:, 11:].any()
    assert found.occlusion[:, 12].max() > 0
