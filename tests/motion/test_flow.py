from __future__ import annotations

import cv2
import numpy as np
import pytest

from rerender.errors import UserError
from rerender.motion.flow import (
    DisFlow,
    bidirectional,
    flow_estimator,
    flow_estimator_names,
    register_flow_estimator,
)
from tests.motion.cases import layered, moved_photograph, picture


def epe(flow, truth, where=slice(None)):
    return np.hypot(*np.moveaxis(flow - truth, -1, 0))[where].mean()


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"])
def test_smooth_motion_of_a_photograph(name):
    """I1(x) = I2(x + F(x)) with a turn, a zoom and a shift of 5 px."""
    pair = moved_photograph(name, size=160)
    found = bidirectional(DisFlow(), pair.a, pair.b)
    assert np.abs(pair.forward).mean() > 3
    assert epe(found.forward, pair.forward, ~pair.hidden_a) < 0.25
    assert epe(found.backward, pair.backward, ~pair.hidden_b) < 0.25


def test_layered_motion_with_occlusion():
    pair = layered(192)
    found = bidirectional(flow_estimator("dis"), pair.a, pair.b)
    quick = flow_estimator("dis_fast")(pair.a, pair.b)
    assert epe(found.forward, pair.forward, ~pair.hidden_a) < 0.5
    assert epe(found.backward, pair.backward, ~pair.hidden_b) < 0.5
    assert epe(quick, pair.forward, ~pair.hidden_a) < 1.0


def test_luma_is_made_from_rgb():
    """A pattern that is seen in red and nearly vanishes in blue: wrong channel order would follow the blue one."""
    base = picture("astronaut.png")[100:196, 100:228, 1]
    blue = picture("coffee.png")[100:196, 100:228, 1]
    a = np.stack([base, base, blue], -1)
    b = np.stack([np.roll(base, 4, 1), np.roll(base, 4, 1), np.roll(blue, -4, 1)], -1)
    inner = (slice(16, -16), slice(16, -16))
    assert epe(DisFlow()(a, b), np.float32([4, 0]), inner) < 1.0
    assert epe(DisFlow()(a[..., ::-1], b[..., ::-1]), np.float32([4, 0]), inner) > 1.0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_equal_pictures_give_equal_bits_with_any_number_of_threads(threads):
    pair = layered(128)
    before = cv2.getNumThreads()
    expected = DisFlow()(pair.a, pair.b)
    try:
        cv2.setNumThreads(threads)
        np.testing.assert_array_equal(DisFlow()(pair.a, pair.b), expected)
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("size", [(8, 8), (8, 96), (97, 8), (9, 13), (33, 47), (1, 1), (65, 127)])
@pytest.mark.parametrize("name", ["dis", "dis_fast"])
def test_any_size_works(size, name):
    picture_ = picture("coffee.png")[: size[0], : size[1]]
    flow = flow_estimator(name)(picture_, picture_.copy())
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    assert flow.flags.c_contiguous
    np.testing.assert_allclose(flow, 0, atol=0.05)


def test_tiny_frames_still_show_motion():
    photo = cv2.GaussianBlur(picture("coffee.png"), (5, 5), 0)[200:260, 200:260]
    a, b = photo[10:34, 10:34], photo[10:34, 8:32]  # a(x) = b(x + 2)
    flow = DisFlow()(a, b)
    assert epe(flow, np.float32([2, 0]), (slice(4, -4), slice(4, -4))) < 0.7


def test_pictures_that_do_not_fit_are_refused():
    a = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        DisFlow()(a, a[:8])
    with pytest.raises(ValueError, match="uint8 RGB"):
        DisFlow()(a.astype(np.float32), a)


def test_estimators_are_built_when_first_asked_for(monkeypatch):
    monkeypatch.setattr("rerender.motion.flow._FACTORIES", {})
    monkeypatch.setattr("rerender.motion.flow._BUILT", {})
    built = []

    def factory():
        built.append(1)
        return DisFlow()

    register_flow_estimator("for this test", factory)
    assert "for this test" in flow_estimator_names()
    assert not built
    assert flow_estimator("for this test") is flow_estimator("for this test")
    assert len(built) == 1


def test_an_unknown_estimator_is_named_with_those_there_are():
    with pytest.raises(UserError, match="raft_large") as raised:
        flow_estimator("raft_large")
    assert "dis" in raised.value.hint
