from __future__ import annotations

import numpy as np
import pytest

from rerender.evaluate.scenes import scene
from rerender.motion.chain import FlowChain, better_flow
from rerender.motion.flow import bidirectional, flow_estimator
from tests.motion.cases import move, picture, square


def advanced(estimator, frames):
    chain = FlowChain(estimator, frames[0])
    for frame in frames[1:]:
        chain.advance(frame)
    return chain


def epe(flow, truth, seen):
    return np.hypot(*np.moveaxis(flow - truth, -1, 0))[seen].mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_fast_motion_is_followed_where_one_step_loses_it(seed):
    clip = scene("fast", seed, (128, 128), 5)
    dis = flow_estimator()
    truth, seen = clip.flow_between(4, 0), ~clip.occluded_between(4, 0)
    direct = epe(dis(clip.frames[4], clip.frames[0]), truth, seen)
    chained = epe(advanced(dis, clip.frames).pair().forward, truth, seen)
    assert direct > 1.5  # or the case shows nothing
    assert chained < 0.6 * direct


def test_both_directions_are_composed_in_the_right_order():
    """A shift, a turn and a zoom do not commute; the exact steps must compose to the exact whole."""
    eye = np.eye(3)
    steps = [eye, square(move(5, 0)), square(move(0, 0, 8)), square(move(0, 0, 0, 1.1))]
    poses = [eye, eye, eye, eye]
    for i in (1, 2, 3):
        poses[i] = steps[i] @ poses[i - 1]  # frame 0 to frame i

    def exact(reference, target):
        matrix = poses[target[0, 0, 0]] @ np.linalg.inv(poses[reference[0, 0, 0]])
        grid = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=-1)
        return (grid @ matrix[:2, :2].T + matrix[:2, 2] - grid).astype(np.float32)

    frames = [np.full((64, 64, 3), i, np.uint8) for i in range(4)]
    chain = advanced(exact, frames)
    inner = (slice(16, 40), slice(16, 40))
    for found, i, j in ((chain._chained.forward, 3, 0), (chain._chained.backward, 0, 3)):
        np.testing.assert_allclose(found[inner], exact(frames[i], frames[j])[inner], atol=1e-4)


def test_neighbours_and_the_reference_itself():
    photo = picture("coffee.png")
    a, b = photo[100:164, 100:196], photo[100:164, 104:200]
    dis = flow_estimator()
    still = FlowChain(dis, a)
    assert not still.pair().forward.any()
    assert still.correspond().visible_share == 1.0
    still.advance(b)
    np.testing.assert_array_equal(still.pair().forward, bidirectional(dis, b, a).forward)


def test_the_flow_that_explains_more_is_taken_pixel_by_pixel():
    photo = picture("chelsea.png")[60:160, 80:240]
    target = photo.copy()
    target[:, 80:] = np.roll(photo, 6, 1)[:, 80:]  # the right half moves by 6 px, the left one does not
    zero, six = np.zeros((100, 160, 2), np.float32), np.full((100, 160, 2), [6, 0], np.float32)
    found = better_flow(photo, target, zero, six)[..., 0]
    assert (found[:, :76] == 0).mean() > 0.97
    assert (found[:, 80:152] == 6).mean() > 0.97
