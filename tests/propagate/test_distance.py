"""How much of each key a frame between two of them gets: by its distance in frames, and never less along the flow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rerender.propagate import PropagationSettings, interval, propagate_interval
from rerender.propagate.blend import carry_weight
from tests.propagate.clips import clip, restyle

FAST = PropagationSettings(preset="fast", threads=1)


@pytest.mark.parametrize("last", [2, 3, 5])
def test_where_nothing_moves_a_frame_is_the_mean_of_both_keys_by_its_distance(last: int) -> None:
    frames = clip("translation", 1, 48)[0] * (last + 1)
    dark, light = (np.full((48, 48, 3), value, np.uint8) for value in (100, 112))  # near enough to be no ghost
    made = dict(propagate_interval(frames, dark, light, FAST))
    expected = {offset: 100 + 12 * offset / last for offset in range(1, last)}
    assert {offset: float(picture.mean()) for offset, picture in made.items()} == pytest.approx(expected, abs=0.8)


def test_the_share_of_the_later_key_is_carried_along_the_flow_and_does_not_fall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames, flow = clip("fast", 6, 64)
    usual, latches, weights = interval.blend, list[Any](), list[np.ndarray]()

    def noted(*arguments: Any) -> Any:
        made = usual(*arguments)
        latches.append(arguments[4])
        weights.append(made.weight)
        return made

    monkeypatch.setattr(interval, "blend", noted)
    keys = restyle(frames[0]), restyle(frames[5])
    list(propagate_interval(frames, *keys, FAST, flow=flow))
    assert latches[0] is None
    for offset, before, latch in zip((2, 3, 4), weights[:3], latches[1:], strict=True):
        known = latch > 0
        carried = carry_weight(before, flow.clip.flow_between(offset, offset - 1), ~known)
        assert known.mean() > 0.8  # the rest are holes
        assert np.array_equal(latch, carried)
    latches.clear()
    list(propagate_interval(frames, *keys, replace(FAST, latch=False), flow=flow))
    assert latches == [None] * 4
