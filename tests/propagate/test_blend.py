from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rerender.arrays import HOST
from rerender.propagate import blend as blend_module
from rerender.propagate.blend import blend, carry_weight, credit, finish, share
from rerender.propagate.detail import detail_energy, missing_detail
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import Swept

PLAIN = PropagationSettings(contrast=False, poisson=False, ghost_check=False)


def side(picture: np.ndarray, error: float | np.ndarray, trust: float | np.ndarray = 0.0, seen: float = 1.0) -> Swept:
    maps = (np.broadcast_to(np.float32(v), picture.shape[:2]).astype(np.float32) for v in (error, trust, seen))
    return Swept(picture, *maps, detail_energy(picture))


def noise(seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (24, 30, 3), dtype=np.uint8)


def test_the_share_weighs_credits_by_the_distance_in_frames():
    a, b = np.array([[1.0, 1.0, 0.2]]), np.array([[1.0, 0.2, 1.0]])
    assert np.allclose(share(a, b, 0.5), [[1 / 2, 1 / 6, 5 / 6]])
    assert np.allclose(share(a, b, 0.25), [[1 / 4, 1 / 16, 5 / 8]])


def test_the_share_is_symmetric_in_both_directions_and_distances():
    a, b = np.random.default_rng(0).uniform(0.01, 1, (2, 40, 40))
    for alpha in (0.1, 0.3, 0.5, 0.9):
        assert np.allclose(share(a, b, alpha), 1 - share(b, a, 1 - alpha))


def test_what_follows_its_key_deserves_most_and_what_the_key_does_not_show_least():
    picture = noise(1)
    followed, seen, unseen, wrong = (
        float(credit(side(picture, *values)).mean())
        for values in ((0, 1.0, 1.0), (0, 0.0, 1.0), (0, 0.0, 0.0), (10**5, 0.0, 0.0))
    )
    assert followed == 1 > seen > unseen > wrong > 0


def test_an_error_counts_for_all_that_lies_within_5_pixels():
    error = np.zeros((24, 30), np.float32)
    error[12, 15] = 10**6
    blamed = credit(side(noise(1), error)) < 0.3  # of 0.4
    ys, xs = np.nonzero(blamed)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (7, 17, 10, 20)
    assert blamed[7:18, 10:21].all()


def test_near_a_key_its_own_side_dominates():
    a, b = noise(1), noise(2)
    near_a = blend(side(a, 100), side(b, 100), 0.05, PLAIN).picture.astype(int)
    near_b = blend(side(a, 100), side(b, 100), 0.95, PLAIN).picture.astype(int)
    assert np.abs(near_a - a).mean() < np.abs(near_a - b).mean() / 4
    assert np.abs(near_b - b).mean() < np.abs(near_b - a).mean() / 4


def test_a_direction_with_a_much_larger_error_is_not_mixed_in():
    a, b = noise(1), noise(2)
    mixed = blend(side(a, 10), side(b, 10**6), 0.5, PLAIN).picture.astype(int)
    assert np.abs(mixed - a).mean() < 1


def test_equal_directions_come_back_unchanged_with_every_switch_on():
    a = noise(3)
    result = blend(side(a, 5), side(a, 7), 0.4, PropagationSettings()).picture.astype(int)
    assert np.abs(result - a).max() <= 1


def test_the_latch_keeps_a_pixel_with_the_later_key():
    a, b = noise(1), noise(2)
    latched = np.zeros((24, 30), np.float32)
    latched[4:8] = 0.9
    weight = blend(side(a, 1), side(b, 5), 0.5, PLAIN, latched).weight
    assert np.all(weight[4:8] >= 0.9)
    assert np.allclose(weight[8:], 0.5, atol=0.01)


def test_the_latch_follows_the_flow_and_lets_go_at_holes():
    weight = np.zeros((10, 12), np.float32)
    weight[4, 5] = 0.75
    flow = np.full((10, 12, 2), (-2.0, 1.0), np.float32)
    holes = np.zeros((10, 12), bool)
    carried = carry_weight(weight, flow, holes)
    assert np.argwhere(carried).tolist() == [[3, 7]]
    assert carried[3, 7] == 0.75
    holes[3, 7] = True
    assert not carry_weight(weight, flow, holes).any()


@pytest.mark.parametrize("poisson", [True, False])
def test_the_mix_gets_the_detail_back_that_averaging_took(poisson):
    a, b = (np.random.default_rng(seed).integers(100, 156, (60, 60, 3), dtype=np.uint8) for seed in (1, 2))
    mixed, restored = (
        blend(side(a, 5, 1.0), side(b, 5, 1.0), 0.5, PropagationSettings(contrast=on, poisson=poisson)).picture
        for on in (False, True)
    )
    assert mixed.std() < 0.8 * a.std()
    assert abs(restored.std() - a.std()) < 0.12 * a.std()
    assert np.allclose(restored.mean((0, 1)), mixed.mean((0, 1)), atol=1)


def test_a_mix_is_to_have_the_detail_of_its_parts_by_their_shares(monkeypatch):
    asked = []
    monkeypatch.setattr(blend_module, "missing_detail", lambda lab, *given: asked.extend(given) or 0 * lab)
    first, second = (replace(side(noise(1), 5, trust), detail=np.full((24, 30), 10 * trust)) for trust in (0.25, 1.0))
    weight = blend(first, second, 0.3, replace(PLAIN, contrast=True)).weight
    assert np.allclose(asked, [2.5 + weight * 7.5, 0.25 + weight * 0.75])


def test_a_picture_gets_the_detail_back_that_its_key_has_and_no_more():
    key = np.random.default_rng(1).integers(100, 156, (60, 60, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(key, (0, 0), 0.5)
    wanted, lab = detail_energy(key), HOST.to_lab(soft)
    for trust, low, high in ((1.0, 0.85, 1.0), (0.0, 0.75, 0.85)):  # less is given back to what is synthesised
        made = HOST.from_lab(lab + missing_detail(lab, wanted, np.full((60, 60), trust, np.float32)))
        assert detail_energy(soft).mean() < 0.7 * wanted.mean()
        assert low < detail_energy(made).mean() / wanted.mean() < high
    assert not missing_detail(lab, detail_energy(soft) * 0.5, np.ones((60, 60), np.float32)).any()
    nothing_left = np.zeros_like(lab)
    assert not missing_detail(nothing_left, wanted, np.ones((60, 60), np.float32)).any()


def test_detail_is_at_most_doubled():
    lab = np.random.default_rng(0).normal(50, 1, (40, 40, 3)).astype(np.float32)
    missing = missing_detail(lab, np.full((40, 40), 10**6, np.float32), np.ones((40, 40), np.float32))
    detail = lab - cv2.blur(lab, (3, 3))
    assert np.abs(missing).max() > 0.5
    assert np.all(np.abs(missing) <= np.abs(detail) + 1e-3)


def test_sharpened_edges_get_no_halo():
    step = np.full((60, 60, 3), 90, np.uint8)
    step[:, 30:] = 170
    soft = cv2.GaussianBlur(step, (0, 0), 1.2)
    lab = HOST.to_lab(soft)
    made = lab + missing_detail(lab, detail_energy(step), np.ones((60, 60), np.float32))
    assert detail_energy(HOST.from_lab(made))[:, 30].mean() > 1.15 * detail_energy(soft)[:, 30].mean()
    assert lab.min() <= made.min()
    assert made.max() <= lab.max()


def test_a_single_direction_is_finished_too_and_what_lacks_nothing_is_not_touched():
    key = noise(4, 100, 156)
    assert np.array_equal(finish(side(key, 0, trust=1.0), PropagationSettings()), key)
    soft = replace(side(cv2.GaussianBlur(key, (0, 0), 0.5), 0, trust=1.0), detail=detail_energy(key))
    assert np.array_equal(finish(soft, PropagationSettings(contrast=False)), soft.picture)
    assert finish(soft, PropagationSettings()).std() > 1.2 * soft.picture.std()


@pytest.mark.parametrize("check", [True, False])
def test_a_ghost_is_not_averaged(check):
    a, b = np.full((40, 40, 3), 128, np.uint8), np.full((40, 40, 3), 128, np.uint8)
    a[10:30, 4:18], b[10:30, 22:36] = (230, 30, 30), (230, 30, 30)
    settings = PropagationSettings(contrast=False, poisson=False, ghost_check=check)
    red = blend(side(a, 100), side(b, 110), 0.5, settings).picture[20, 29].astype(int)
    distance = min(np.abs(red - (128, 128, 128)).sum(), np.abs(red - (230, 30, 30)).sum())
    assert (distance < 6) == check


def test_poisson_hides_the_seam_between_two_directions():
    a, b = np.full((32, 64, 3), 100, np.uint8), np.full((32, 64, 3), 112, np.uint8)
    left = np.broadcast_to(np.arange(64) < 32, (32, 64))
    first, second = side(a, 0, left.astype(np.float32)), side(b, 0, 1 - left.astype(np.float32))
    hard = blend(first, second, 0.5, PropagationSettings(poisson=False, contrast=False)).picture.astype(int)
    soft = blend(first, second, 0.5, PropagationSettings(contrast=False)).picture.astype(int)
    assert np.abs(np.diff(soft[16, :, 1])).max() < np.abs(np.diff(hard[16, :, 1])).max()


def test_gradients_count_for_more_in_brightness_than_in_colour():
    """A seam in brightness spreads over more pixels than one in colour, which would bleed."""

    def reach(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
        left = np.broadcast_to(np.arange(64) < 32, (32, 64)).astype(np.float32)
        a, b = (np.full((32, 64, 3), colour, np.uint8) for colour in (first, second))
        made = blend(
            side(a, 0, left), side(b, 0, 1 - left), 0.5, PropagationSettings(contrast=False, ghost_check=False)
        )
        lab = HOST.to_lab(made.picture)[16]
        along = np.linalg.norm(lab - lab[0], axis=1)
        return float(np.mean((along > 0.1 * along[-1]) & (along < 0.9 * along[-1])))

    assert reach((100, 100, 100), (130, 130, 130)) > 2 * reach((120, 100, 100), (100, 108, 100))
