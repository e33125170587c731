"""Motion is followed in a thread while the model samples: same bytes, no thread left, errors where they belong."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from rerender.errors import Interrupted, RerenderError, UserError
from rerender.evaluate.scenes import scene
from rerender.motion.guided import GuidedFlow
from rerender.translate.ahead import Ahead
from tests.test_translate import make, same


class Watched:
    """DIS that notes which frames it compared, and in which thread."""

    def __init__(self, clip):
        self.numbers = {frame.tobytes(): number for number, frame in enumerate(clip.frames)}
        self.flow, self.seen = GuidedFlow().proposer, []

    def __call__(self, reference, target):
        self.seen.append(
            (self.numbers[reference.tobytes()], self.numbers[target.tobytes()], threading.current_thread().name)
        )
        return self.flow(reference, target)


@pytest.fixture(scope="module")
def clip():
    return scene("translation", seed=3, size=(48, 64), frames=12)


def way(clip, start, stop):
    return [(number, clip.frames[number]) for number in range(start + 1, stop + 1)]


def render(translator, clip, frames, *, ahead):
    """Key frames, shown the way to each in a thread during the one before, or by `follow`."""
    keys = []
    for place, frame in enumerate(frames):
        if place and not ahead:
            for number, picture in way(clip, frames[place - 1], frame)[:-1]:
                translator.follow(number, picture)
        step = translator.render_next if place else translator.render_first
        following = frames[place + 1] if place + 1 < len(frames) else None
        upcoming = iter(way(clip, frame, following)) if ahead and following is not None else None
        keys.append(step(frame, clip.frames[frame], upcoming=upcoming))
    return keys


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("options", [{}, {"reanchor_below": 1.0}])
@pytest.mark.parametrize("estimator", ["watched", "guided"])
def test_same_bytes_as_without(clip, options, estimator):
    flows = [Watched(clip) if estimator == "watched" else GuidedFlow() for _ in range(2)]
    keys, others = (
        render(make(flow, **options), clip, [0, 4, 8, 11], ahead=ahead)
        for flow, ahead in zip(flows, (True, False), strict=True)
    )
    assert same(keys, others) == [True] * 4
    assert [key.visible for key in keys] == [key.visible for key in others]


def test_all_motion_is_found_in_the_thread_in_order_and_once(clip):
    flow = Watched(clip)
    render(make(flow), clip, [0, 3, 6], ahead=True)
    assert {thread for *_, thread in flow.seen} == {"ahead"}
    steps = [(a, b) for a, b, _ in flow.seen if a == b + 1]
    assert steps == [(number, number - 1) for number in range(1, 7)]
    assert not workers()


def test_frames_are_read_while_the_model_samples(clip):
    read = []

    def frames():
        for number, picture in way(clip, 0, 3):
            read.append(number)
            yield number, picture

    translator = make(Watched(clip))

    def on_step(done, total):
        while 3 not in read:  # the model is not done before the frames are there: only a thread can bring them
            time.sleep(0.001)

    translator.render_first(0, clip.frames[0], upcoming=frames(), on_step=on_step)
    assert translator.reached == 3
    assert read == [1, 2, 3]


def test_an_interrupt_leaves_no_thread_and_the_state_before_is_good(clip):
    flow = Watched(clip)
    whole = render(make(flow), clip, [0, 4, 8], ahead=False)
    translator = make(flow)
    render(translator, clip, [0, 4], ahead=False)
    tensors, meta = translator.state()
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    for number, picture in way(clip, 4, 8)[:-1]:
        translator.follow(number, picture)
    asked = iter([False] * 3)
    with pytest.raises(Interrupted):
        translator.render_next(8, clip.frames[8], upcoming=iter(way(clip, 8, 11)), cancelled=lambda: next(asked, True))
    assert not workers()
    translator.restore(kept, meta)
    for number, picture in way(clip, 0, 8)[:-1]:
        translator.follow(number, picture)
    assert same([translator.render_next(8, clip.frames[8])], whole[2:]) == [True]


def test_an_interrupt_of_the_first_key_frame_leaves_nothing_behind(clip):
    translator = make(Watched(clip))
    with pytest.raises(Interrupted):
        translator.render_first(0, clip.frames[0], upcoming=iter(way(clip, 0, 4)), cancelled=lambda: True)
    assert translator.reached is None
    assert not workers()
    with pytest.raises(RerenderError, match="render_first"):
        translator.render_next(4, clip.frames[4])


def test_what_goes_wrong_in_the_thread_is_raised_where_the_motion_is_needed(clip):
    def frames():
        yield 1, clip.frames[1]
        raise UserError("clip.mp4 has changed")

    translator = make(Watched(clip))
    key = translator.render_first(0, clip.frames[0], upcoming=frames())
    assert key.picture.shape == clip.frames[0].shape  # that one is finished
    with pytest.raises(UserError, match="has changed"):
        translator.render_next(4, clip.frames[4])
    translator.close()
    assert not workers()


def test_closing_breaks_off_what_still_runs(clip):
    begun, asked = threading.Event(), []

    def frames():
        for _ in range(1000):
            begun.set()
            asked.append(1)
            time.sleep(0.01)
            yield 1, clip.frames[1]

    with make(Watched(clip)) as translator:
        translator.render_first(0, clip.frames[0], upcoming=frames())
        assert begun.wait(10)
    assert not workers()
    assert len(asked) < 1000


def test_work_that_is_started_waits_for_the_work_before():
    ahead, order = Ahead(), []

    def work(number):
        def run(stopped):
            time.sleep(0.02 if number == 0 else 0)
            order.append(number)

        return run

    for number in range(3):
        ahead.start(work(number))
    ahead.settle()
    assert order == [0, 1, 2]


def test_an_error_is_raised_once():
    ahead = Ahead()

    def fail(stopped):
        raise ValueError("no")

    ahead.start(fail)
    with pytest.raises(ValueError, match="no"):
        ahead.settle()
    ahead.settle()
    ahead.start(fail)
    ahead.abandon()
    ahead.settle()


def test_motion_that_is_not_announced_is_found_as_before(clip):
    key = render(make(Watched(clip)), clip, [0, 4], ahead=False)[1]
    assert isinstance(key.picture, np.ndarray)
    assert not workers()
