"""What of the settings reaches a synthesis on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rerender.propagate import PropagationSettings
from rerender.propagate import backend as backend_module
from rerender.propagate.backend import HostBackend
from rerender.propagate.problem import EFFORTS


@pytest.mark.parametrize("preset", ["fast", "default", "quality"])
def test_every_setting_of_a_synthesis_reaches_it(monkeypatch: pytest.MonkeyPatch, preset: Any) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(backend_module, "synthesize", lambda *pictures, **options: asked.update(options, at=pictures))
    chosen = {"patch_size": 7, "uniformity": 12.5, "weighted_vote": preset == "fast", "seed": 9, "threads": 3}
    style, guides, start, wanted = np.zeros(1), [], np.zeros(2), np.zeros(3)
    HostBackend(PropagationSettings(preset=preset, **chosen)).synthesize(style, guides, start, wanted)
    assert asked.pop("at") == (style, guides)
    assert asked.pop("start") is start
    assert asked.pop("target_mask") is wanted
    assert asked == {
        "effort": EFFORTS[preset], "start_levels": 3, "patch": 7, "uniformity": 12.5, "weighted": preset == "fast",
        "seed": 9, "threads": 3,
    }  # fmt: skip


@pytest.mark.parametrize(("chosen", "expected"), [({"rounds": 3}, (3, 2)), ({"passes": 5}, (10, 5)), ({}, (10, 2))])
def test_rounds_and_passes_can_be_chosen_instead_of_the_presets(chosen: Any, expected: tuple[int, int]) -> None:
    effort = HostBackend(PropagationSettings(**chosen)).options(None, None)["effort"]
    assert (effort.rounds, effort.passes, effort.radius) == (*expected, EFFORTS["default"].radius)


def test_the_presets_are_what_is_documented() -> None:
    """docs/propagation.md: rounds × passes, radius, stop threshold; "quality" has the reference's counts."""
    facts = {name: (e.rounds, e.passes, e.radius, e.tolerance) for name, e in EFFORTS.items()}
    assert facts == {
        "fast": (6, 2, 8, 3), "default": (10, 2, 32, 2), "quality": (12, 6, 32, 2), "exhaustive": (12, 6, 0, 0),
    }  # fmt: skip
