from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rerender.propagate import synthesis
from rerender.propagate.numba_engine import NumbaLevel
from rerender.propagate.problem import EFFORTS, Guide, build_problem
from rerender.propagate.torch_engine import TorchLevel
from tests.propagate.clips import clip, restyle


def levels(patch: int = 5, **options: object) -> tuple[NumbaLevel, TorchLevel]:
    rng = np.random.default_rng(0)
    style, source = rng.integers(0, 256, (2, 26, 30, 3), dtype=np.uint8)
    guides = [
        Guide(source[..., :count], rng.integers(0, 256, (24, 40, count), dtype=np.uint8), 6.0, refines=count == 3)
        for count in (3, 1)
    ]
    problem = build_problem(style, guides, effort=EFFORTS["fast"], patch=patch, finest_only=1, **options)  # type: ignore[arg-type]
    field = np.stack([rng.integers(4, 26, (24, 40)), rng.integers(4, 22, (24, 40))], -1).astype(np.int32)
    return NumbaLevel(problem, problem.levels[0], field, 1), TorchLevel(problem, problem.levels[0], field)


@pytest.mark.parametrize("patch", [3, 5, 7])
def test_errors_penalties_and_votes_equal_the_kernels_to_the_bit(patch):
    kernels, torch_level = levels(patch)
    for state in (kernels, torch_level):
        state.vote()
        state.settle()
    assert np.array_equal(kernels.errors, torch_level.errors)
    assert np.array_equal(kernels._penalty(), torch_level._penalty().numpy())
    assert np.array_equal(kernels.picture(), torch_level.picture())
    for state in (kernels, torch_level):
        state.vote(1e-7)
    assert np.array_equal(kernels.picture(), torch_level.picture())
    assert np.array_equal(kernels.active, torch_level.active.numpy())


def test_the_refinement_equals_that_of_the_kernels():
    kernels, torch_level = levels()
    for state in (kernels, torch_level):
        state.vote()
        state.settle()
        state.refine()
    assert np.array_equal(kernels.picture(), torch_level.picture())


def test_random_candidates_are_those_of_the_kernels():
    kernels, torch_level = levels()
    for state in (kernels, torch_level):
        state.search(reverse=False, rescore=True, propagate=False, radius=16, key=77, shift=0)
    assert np.array_equal(kernels.nnf, torch_level.nnf)
    assert np.array_equal(kernels.errors, torch_level.errors)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_the_own_use_of_a_pixel_does_not_count_against_places_beside_it(radius):
    kernels, torch_level = levels(uniformity=1e6)
    before = kernels.nnf.copy()
    for state in (kernels, torch_level):
        for key in range(4):
            state.search(reverse=False, rescore=key == 0, propagate=False, radius=radius, key=key, shift=0)
    assert np.array_equal(kernels.nnf, torch_level.nnf)
    assert (kernels.nnf != before).any(2).mean() > 0.1


def test_a_synthesis_is_as_good_as_with_the_kernels():
    frames, _ = clip("rotation", 3, 40)
    style, guide = restyle(frames[0]), Guide(frames[0], frames[2], 6.0)
    results = [
        synthesis.synthesize(style, [guide], effort=EFFORTS["default"], engine=engine)
        for engine in (TorchLevel, synthesis.cpu_engine())
    ]
    assert results[0].error.mean() < results[1].error.mean() * 1.05


def test_without_numba_torch_takes_over_and_says_so_once(monkeypatch, caplog):
    real = builtins.__import__

    def without_numba(name: str, *args: object, **kwargs: object) -> object:
        if name == "rerender.propagate.numba_engine":
            raise ImportError("No module named 'numba'")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_numba)
    synthesis._say_once.cache_clear()
    assert synthesis.cpu_engine() is TorchLevel
    assert synthesis.cpu_engine() is TorchLevel
    assert [record.message.count("numba") > 0 for record in caplog.records] == [True]


def test_a_whole_interval_is_made_without_numba():
    script = (
        "import sys\n"
        "sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from rerender.motion.flow import flow_estimator\n"
        "from rerender.propagate import PropagationSettings, propagate_interval\n"
        "frames = list(np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8))\n"
        "settings = PropagationSettings(preset='fast', device='cpu')\n"
        "made = propagate_interval(frames, frames[0], frames[2], settings, flow=flow_estimator('dis_guided'))\n"
        "assert [offset for offset, _ in made] == [1]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("numba is not installed") == 1
