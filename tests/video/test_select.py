from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.video.select import Selection, select_frames

STEPS = st.lists(st.integers(1, 9), min_size=1, max_size=60)
CLIP = [Fraction(k, 25) for k in range(50)]


def times_of(steps: list[int], origin: Fraction = Fraction(0)) -> list[Fraction]:
    return [origin + Fraction(sum(steps[:k]), 60) for k in range(len(steps))]


def check_sound(selection: Selection) -> None:
    assert selection.times[0] == 0
    assert all(after > before for before, after in pairwise(selection.indices))
    assert all(after > before for before, after in pairwise(selection.times))
    ends = [time + length for time, length in zip(selection.times, selection.durations, strict=True)]
    assert list(selection.times[1:]) == ends[:-1]
    assert ends[-1] == selection.end - selection.start


@given(STEPS, st.integers(0, 100), st.data())
def test_without_a_rate_every_frame_keeps_its_own_time(steps: list[int], shift: int, data: st.DataObject) -> None:
    clip = times_of(steps, Fraction(shift, 10))
    start = data.draw(st.integers(0, len(clip) - 1))
    end = data.draw(st.integers(start + 1, len(clip)))
    selection = select_frames(clip, start=start, end=end)
    assert selection.indices == tuple(range(start, end))
    assert selection.times == tuple(clip[k] - clip[start] for k in range(start, end))
    check_sound(selection)


@given(STEPS, st.sampled_from([0.5, 1, 5, 8, 12.5, 23.976, 29.97]))
def test_a_lower_rate_shows_the_nearest_frame_at_each_tick(steps: list[int], rate: float) -> None:
    clip = times_of(steps)
    end = clip[-1] + Fraction(1, 60)
    selection = select_frames(clip, frame_rate=rate, end_time=end)
    check_sound(selection)
    if selection.indices == tuple(range(len(clip))) and selection.times == tuple(clip):
        return
    for index, time in zip(selection.indices, selection.times, strict=True):
        assert abs(clip[index] - time) == min(abs(other - time) for other in clip)


def test_half_the_rate_takes_every_second_frame() -> None:
    selection = select_frames(CLIP, frame_rate=12.5, end_time=Fraction(2))
    assert selection.indices == tuple(range(0, 50, 2))
    assert selection.times == tuple(Fraction(2 * k, 25) for k in range(25))
    assert set(selection.durations) == {Fraction(2, 25)}


@pytest.mark.parametrize("rate", [25, 26, 60, Fraction(1000)])
def test_a_rate_that_is_not_lower_changes_nothing(rate: Fraction) -> None:
    assert select_frames(CLIP, frame_rate=rate, end_time=Fraction(2)) == select_frames(CLIP, end_time=Fraction(2))


def test_the_last_chosen_frame_lasts_until_the_next_one_of_the_source() -> None:
    clip = [Fraction(0), Fraction(1), Fraction(5), Fraction(6)]
    assert select_frames(clip, end=2).durations == (Fraction(1), Fraction(4))
    assert select_frames(clip, end_time=Fraction(9)).durations == (Fraction(1), Fraction(4), Fraction(1), Fraction(3))


def test_one_frame_is_a_clip() -> None:
    selection = select_frames([Fraction(3)], frame_rate=10, end_time=Fraction(4))
    assert (selection.indices, selection.times, selection.durations) == ((0,), (Fraction(0),), (Fraction(1),))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"start": 50}, "frame 50"),
        ({"start": -1}, "frame -1"),
        ({"end": 51}, "frame 51"),
        ({"start": 7, "end": 7}, "frame 7 to 7"),
        ({"start": 7, "end": 3}, "frame 7 to 3"),
        ({"frame_rate": -2.0}, "-2"),
    ],
)
def test_ranges_that_leave_the_clip_are_refused(bad: dict, named: str) -> None:
    with pytest.raises(UserError) as caught:
        select_frames(CLIP, **bad)
    assert named in caught.value.message
    assert caught.value.hint


def test_no_frames_are_refused() -> None:
    with pytest.raises(UserError, match="no frames"):
        select_frames([])
