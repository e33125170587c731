from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.video.timing import durations_of, exact_rate, median_gap, repair_timestamps, time_base_for

TIMES = st.lists(st.one_of(st.none(), st.integers(-50, 50).map(lambda value: Fraction(value, 7))), max_size=30)


def longest_increasing_length(values: list[Fraction | None]) -> int:
    """The textbook quadratic recurrence."""
    best: list[int] = []
    for index, value in enumerate(values):
        if value is None:
            best.append(0)
            continue
        before = [best[k] for k in range(index) if values[k] is not None and values[k] < value]
        best.append(1 + max(before, default=0))
    return max(best, default=0)


@given(TIMES)
def test_repaired_times_increase_and_keep_as_many_as_possible(raw: list[Fraction | None]) -> None:
    repaired = repair_timestamps(raw, Fraction(1, 25))
    assert len(repaired) == len(raw)
    assert all(after > before for before, after in pairwise(repaired))
    kept = sum(new == old for new, old in zip(repaired, raw, strict=True))
    assert kept >= longest_increasing_length(raw)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_increasing_times_stay_as_they_are(steps: list[int]) -> None:
    raw = [Fraction(sum(steps[:index]), 30) for index in range(len(steps))]
    assert repair_timestamps(raw, Fraction(1)) == raw


def test_a_doubled_time_moves_half_way_to_the_next() -> None:
    assert repair_timestamps([Fraction(0), Fraction(1), Fraction(1), Fraction(2)], Fraction(1)) in (
        [Fraction(0), Fraction(1), Fraction(3, 2), Fraction(2)],
        [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(2)],
    )


def test_times_before_and_behind_the_known_ones_continue_at_the_gap() -> None:
    assert repair_timestamps([None, Fraction(1), None, Fraction(2), None], Fraction(1, 4)) == [
        Fraction(3, 4),
        Fraction(1),
        Fraction(3, 2),
        Fraction(2),
        Fraction(9, 4),
    ]


@pytest.mark.parametrize(
    ("rounded", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (0.5, Fraction(1, 2)),
        (0, Fraction(0)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
    ],
)
def test_rounded_rates_mean_the_exact_ones(rounded: float, exact: Fraction) -> None:
    assert exact_rate(rounded) == exact


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([25, 24, 30, 1000, 12800])), min_size=1))
def test_every_time_is_a_whole_number_of_ticks(parts: list[tuple[int, int]]) -> None:
    times = [Fraction(numerator, denominator) for numerator, denominator in parts]
    tick = time_base_for(times)
    assert tick.numerator == 1
    assert all((time / tick).denominator == 1 for time in times)


def test_a_clock_finer_than_a_microsecond_is_not_used() -> None:
    assert time_base_for([Fraction(1, 999_983), Fraction(1, 999_979)]) == Fraction(1, 1_000_000)


def test_durations_reach_the_next_frame_and_the_end() -> None:
    assert durations_of([Fraction(0), Fraction(1, 4), Fraction(1)], Fraction(3)) == [
        Fraction(1, 4),
        Fraction(3, 4),
        Fraction(2),
    ]


def test_median_gap_ignores_what_does_not_increase() -> None:
    assert median_gap([Fraction(0), Fraction(2), Fraction(1), Fraction(4), Fraction(5)], Fraction(9)) == Fraction(2)
    assert median_gap([Fraction(0)], Fraction(9)) == Fraction(9)
