from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.motion.keyframes import Shot, adaptive_keys, listed_keys, split_shots, uniform_keys

COUNTS = st.integers(1, 300)


def gaps(keys):
    return [b - a for a, b in pairwise(keys)]


@given(COUNTS, st.integers(1, 400))
def test_uniform_keys_lie_at_every_interval_and_both_ends(count, interval):
    keys = uniform_keys(count, interval)
    assert keys[0] == 0
    assert keys[-1] == count - 1
    assert all(gap == interval for gap in gaps(keys)[:-1])
    assert all(0 < gap <= interval for gap in gaps(keys))


@pytest.mark.parametrize(
    ("count", "interval", "expected"),
    [
        (1, 1, [0]),
        (1, 10, [0]),
        (2, 10, [0, 1]),
        (4, 1, [0, 1, 2, 3]),
        (21, 10, [0, 10, 20]),
        (24, 10, [0, 10, 20, 23]),
    ],
)
def test_uniform_keys_of_short_clips(count, interval, expected):
    assert uniform_keys(count, interval) == expected


def test_impossible_intervals_and_clips_are_refused():
    with pytest.raises(UserError, match="interval 0"):
        uniform_keys(10, 0)
    with pytest.raises(UserError, match="0 frames"):
        uniform_keys(0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, 12, 40-60:5", [0, 12, 40, 45, 50, 55, 60, 69]),
        ("", [0, 69]),
        (" 7 ;3\n3,", [0, 3, 7, 69]),
        ("5 - 8", [0, 5, 6, 7, 8, 69]),
        ("10-19:4", [0, 10, 14, 18, 69]),
        ("9-9", [0, 9, 69]),
    ],
)
def test_listed_keys_from_text(text, expected):
    assert listed_keys(text, 70) == expected


@given(COUNTS.flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1)))))
def test_listed_keys_from_numbers_and_from_their_text_agree(case):
    count, numbers = case
    keys = listed_keys(numbers, count)
    assert set(keys) == {0, count - 1, *numbers}
    assert keys == sorted(keys)
    assert listed_keys(", ".join(map(str, numbers)), count) == keys


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("70", "70"),
        ("3, 80-90", "90"),
        ("0-99999999999999", "99999999999999"),
        ("twelve", "'twelve'"),
        ("-4", "'-4'"),
        ("9-5", "'9-5'"),
        ("1-9:0", "'1-9:0'"),
        ("1.5", "'1.5'"),
        ("1 2", "'1 2'"),
    ],
)
def test_wrong_entries_are_named(text, named):
    with pytest.raises(UserError, match=named) as raised:
        listed_keys(text, 70)
    assert raised.value.hint


def test_numbers_outside_the_clip_are_named():
    for number in (-1, 70):
        with pytest.raises(UserError, match=str(number)):
            listed_keys([3, number], 70)


MOTION = st.lists(st.floats(0, 3), min_size=1, max_size=120)


@given(MOTION, st.integers(1, 9), st.integers(0, 20), st.floats(0.1, 20))
def test_adaptive_keys_keep_the_gaps_and_both_ends(motion, min_gap, more, threshold):
    max_gap = min_gap + more
    keys = adaptive_keys(motion, min_gap, max_gap, threshold)
    assert keys[0] == 0
    assert keys[-1] == len(motion) - 1
    assert keys == sorted(set(keys))
    assert max(gaps(keys), default=0) <= max_gap
    short = [gap for gap in gaps(keys) if gap < min_gap]
    assert len(short) <= 1
    if max_gap >= 2 * min_gap - 1 and len(motion) > min_gap:
        assert not short  # only contradictory bounds or a clip below the gap force a short one


@given(MOTION, st.integers(2, 20), st.floats(0.1, 20))
def test_adaptive_keys_come_as_soon_as_the_motion_does(motion, max_gap, threshold):
    keys = adaptive_keys(motion, 1, max_gap, threshold)
    for a, b in pairwise(keys):
        assert b == a + 1 or sum(motion[a + 1 : b]) < threshold + 1e-9


def test_adaptive_keys_without_motion_are_uniform_and_with_much_of_it_dense():
    assert adaptive_keys([0.0] * 31, 3, 10, 1.0) == [0, 10, 20, 30]
    assert adaptive_keys([5.0] * 13, 3, 10, 1.0) == [0, 3, 6, 9, 12]
    calm_then_fast = [0.0] * 20 + [1.0] * 12
    assert adaptive_keys(calm_then_fast, 2, 20, 4.0) == [0, 20, 24, 28, 31]


def test_adaptive_keys_end_does_not_crowd():
    assert adaptive_keys([0.0] * 22, 4, 10, 1.0) == [0, 10, 17, 21]  # 20 moves back to leave 4 frames
    assert adaptive_keys([0.0] * 12, 8, 16, 1.0) == [0, 11]
    assert adaptive_keys([9.0] * 11, 8, 16, 1.0) == [0, 10]  # a key at 8 would leave 2 frames


@pytest.mark.parametrize(
    ("bounds", "named"), [((0, 5, 1.0), "0 to 5"), ((6, 5, 1.0), "6 to 5"), ((1, 5, 0.0), "0.0"), ((1, 5, -1), "-1")]
)
def test_contradictory_bounds_are_refused(bounds, named):
    with pytest.raises(UserError, match=named):
        adaptive_keys([0.0] * 10, *bounds)


def test_shots_have_their_own_ends_as_keys():
    assert split_shots([0, 5, 19], [10, 12], 20) == [
        Shot(0, 9, (0, 5, 9)),
        Shot(10, 11, (10, 11)),
        Shot(12, 19, (12, 19)),
    ]
    assert split_shots([0], [], 1) == [Shot(0, 0, (0,))]
    assert split_shots([0], [1], 2) == [Shot(0, 0, (0,)), Shot(1, 1, (1,))]


@given(st.data(), COUNTS)
def test_shots_part_the_clip(data, count):
    frames = st.lists(st.integers(0, count - 1), max_size=12)
    keys, cuts = data.draw(frames), data.draw(frames)
    shots = split_shots(keys, cuts, count)
    covered = [frame for shot in shots for frame in range(shot.first, shot.last + 1)]
    assert covered == list(range(count))
    assert {shot.first for shot in shots} == {0, *cuts}
    for shot in shots:
        assert shot.keys[0] == shot.first
        assert shot.keys[-1] == shot.last
        assert set(shot.keys) == {shot.first, shot.last} | {
            k for k in {0, count - 1, *keys} if shot.first <= k <= shot.last
        }


def test_a_cut_outside_the_clip_is_named():
    with pytest.raises(UserError, match="Scene cut 20"):
        split_shots([0], [20], 20)
