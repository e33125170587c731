from __future__ import annotations

import pickle
import sys

import cv2
import numpy as np
import pytest

from rerender.evaluate.scenes import scene
from rerender.motion import spread as module
from rerender.motion.chain import FlowChain
from rerender.motion.flow import DisFlow, bidirectional, flow_estimator
from rerender.motion.guided import GuidedFlow
from rerender.motion.matching import MOST, Matcher
from rerender.motion.spread import spread
from tests.motion.cases import layered, moved_photograph, picture


def epe(flow, truth, where=slice(None)):
    return np.hypot(*np.moveaxis(flow - truth, -1, 0))[where].mean()


@pytest.mark.parametrize("name", ["coffee.png", "astronaut.png"])
def test_smooth_motion_gains_too(name):
    pair = moved_photograph(name, size=160)
    guided, plain = (
        epe(estimate(pair.a, pair.b), pair.forward, ~pair.hidden_a) for estimate in (GuidedFlow(), DisFlow())
    )
    assert guided < 0.12
    assert guided < 0.8 * plain


def test_outlines_of_the_flow_are_those_of_the_picture():
    """Near what moves, where DIS tears in a band as wide as its patches, the error is halved at least."""
    pair = layered(192)
    edges = np.abs(np.gradient(pair.forward, axis=(0, 1))).sum(axis=(0, 3)) > 0.5
    near = cv2.dilate(edges.astype(np.uint8), np.ones((11, 11), np.uint8)).astype(bool) & ~pair.hidden_a
    plain, guided = DisFlow()(pair.a, pair.b), GuidedFlow()(pair.a, pair.b)
    assert epe(plain, pair.forward, near) > 0.5  # or the case shows nothing
    assert epe(guided, pair.forward, near) < 0.5 * epe(plain, pair.forward, near)


def test_a_flat_area_moves_with_its_surroundings():
    """A flat square on a photograph that shifts by 5 px: nothing in its middle shows how it moves, its rim does."""
    photo = picture("coffee.png")[100:260, 100:300].copy()
    photo[40:120, 60:140] = 128
    a, b = photo[:, 5:165], photo[:, :160]
    middle = (slice(50, 110), slice(65, 125))
    guided, plain = (epe(estimate(a, b), np.float32([5, 0]), middle) for estimate in (GuidedFlow(), DisFlow()))
    assert guided < 0.05
    assert guided < 0.2 * plain


def test_pair_equals_both_calls_and_can_be_turned():
    pair = layered(96)
    guided = GuidedFlow()
    both, turned = guided.pair(pair.a, pair.b), bidirectional(guided, pair.b, pair.a)
    np.testing.assert_array_equal(both.forward, guided(pair.a, pair.b))
    np.testing.assert_array_equal(both.forward, turned.backward)
    np.testing.assert_array_equal(both.backward, turned.forward)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_equal_pictures_give_equal_bits_with_any_number_of_threads(threads):
    pair = layered(128)
    before = cv2.getNumThreads()
    expected = GuidedFlow()(pair.a, pair.b)
    try:
        cv2.setNumThreads(threads)
        np.testing.assert_array_equal(GuidedFlow()(pair.a, pair.b), expected)
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("size", [(8, 8), (8, 96), (9, 13), (33, 47), (1, 1), (65, 127)])
def test_any_size_works(size):
    photo = picture("coffee.png")[: size[0], : size[1]]
    flow = flow_estimator("dis_guided")(photo, photo.copy())
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    assert flow.flags.c_contiguous
    np.testing.assert_allclose(flow, 0, atol=0.05)


def test_it_travels_to_worker_processes_and_refuses_what_does_not_fit():
    guided = pickle.loads(pickle.dumps(GuidedFlow()))
    a = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        guided(a, a[:8])


def test_a_proposal_is_taken_where_it_fits_better():
    """A chain hands its flow over: fast motion that one step loses is found."""
    clip = scene("fast", 0, (128, 128), 5)
    truth, seen = clip.flow_between(4, 0), ~clip.occluded_between(4, 0)
    guided = GuidedFlow()
    chain = FlowChain(guided, clip.frames[0])
    for frame in clip.frames[1:]:
        chain.advance(frame)
    direct = epe(guided(clip.frames[4], clip.frames[0]), truth, seen)
    assert direct > 2.0  # or the case shows nothing
    assert epe(chain.pair().forward, truth, seen) < 0.5 * direct


def test_one_step_of_a_chain_is_judged_too():
    pair = layered(96)
    chain = FlowChain(GuidedFlow(), pair.b)
    chain.advance(pair.a)
    assert epe(chain.pair().forward, GuidedFlow()(pair.a, pair.b)) < 0.1
    assert np.any(chain.pair().forward != GuidedFlow().proposer(pair.a, pair.b))


def test_costs_say_what_fits_and_neither_praise_nor_blame_what_is_outside():
    photo = picture("chelsea.png")[60:160, 80:240]
    a, b = photo[:, 7:], photo[:, :-7]  # a(x) = b(x + 7)
    matcher = Matcher(a, b)
    right, wrong, out = (np.full((*a.shape[:2], 2), (x, 0), np.float32) for x in (7, 0, 500))
    inner = (slice(10, -10), slice(10, -30))
    assert matcher.cost(right)[inner].max() < 1.0
    assert matcher.cost(wrong)[inner].mean() > 5.0
    np.testing.assert_allclose(matcher.cost(out), 0.4 * MOST, rtol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (33, 47)])
def test_compiled_recursions_have_numpys_bits(monkeypatch, size):
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    values, weight = rng.normal(0, 5, (*size, 2)).astype(np.float32), rng.uniform(1e-5, 1, size).astype(np.float32)
    made = spread(values, weight, canvas)
    assert module._recursions() != (module._across, module._down)
    monkeypatch.setitem(sys.modules, "rerender.motion.recursion", None)
    module._recursions.cache_clear()
    try:
        assert module._recursions() == (module._across, module._down)
        np.testing.assert_array_equal(spread(values, weight, canvas), made)
    finally:
        module._recursions.cache_clear()


def test_what_is_spread_stops_at_outlines():
    canvas = np.zeros((40, 60, 3), np.uint8)
    canvas[:, 30:] = 200
    values, weight = np.zeros((40, 60, 2), np.float32), np.full((40, 60), 1e-5, np.float32)
    values[20, 10], weight[20, 10] = (3, -1), 1
    values[5, 50], weight[5, 50] = (7, 2), 1
    found = spread(values, weight, canvas)
    np.testing.assert_allclose(found[:, :29], np.broadcast_to(np.float32([3, -1]), (40, 29, 2)), atol=0.3)
    np.testing.assert_allclose(found[:, 31:], np.broadcast_to(np.float32([7, 2]), (40, 29, 2)), atol=0.5)
