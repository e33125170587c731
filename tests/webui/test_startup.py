"""What the extension costs while the webui starts, and what it leaves for the first run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.webui.inside import Inside

pytestmark = pytest.mark.timeout(1200)

# What only a run needs: video, flow, the method, compiled code.
FOR_A_RUN = ("av", "numba", "rerender.motion", "rerender.translate", "rerender.diffusion.bank", "rerender.pipeline")


def test_start_is_quick_and_loads_nothing_for_a_run(webui: Path, tmp_path: Path) -> None:
    with Inside(webui, tmp_path / "data", measure_startup=True) as started:
        found = started("startup_cost")
    assert sum(found["cost"].values()) < 0.3, found["cost"]
    brought = {name for name in found["modules"] if name.startswith(FOR_A_RUN)}
    assert not brought


@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
def test_key_frames_are_the_same_with_less_memory(webui: Path, inside: Inside, tmp_path: Path, flag: str) -> None:
    expected, found = tmp_path / "expected.npy", tmp_path / "found.npy"
    inside("save_translation", path=str(expected), sampler="Euler")
    with Inside(webui, tmp_path / "data", [flag]) as spare:
        spare("save_translation", path=str(found), sampler="Euler")
    assert np.array_equal(np.load(found), np.load(expected))
