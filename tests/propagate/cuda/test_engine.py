"""The arithmetic of the kernels, against the torch engine (the same schedule) and numba (another one)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rerender.propagate import synthesis
from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.level import CudaLevel
from rerender.propagate.numba_engine import NumbaLevel
from rerender.propagate.problem import EFFORTS, Effort, Guide, Problem, build_problem, quarter_pixels
from rerender.propagate.synthesis import first_field
from rerender.propagate.torch_engine import TorchLevel
from tests.propagate.clips import clip, restyle
from tests.propagate.cuda.conftest import there
from tests.propagate.cuda.examples import EFFORT, example, mask, on_gpu

CASES: dict[str, dict[str, Any]] = {
    "patch 3": {"patch": 3},
    "patch 5": {"patch": 5},
    "patch 7": {"patch": 7},
    "32 lanes": {"channels": 20},
    "gray": {"gray": True},
    "4 style channels": {"style_channels": 4},
    "no occupancy": {"uniformity": 0.0},
    "strong occupancy": {"uniformity": 1e6},
    "weighted": {"weighted": True},
    "whole pixels": {"subpixel": False},
    "weighted, whole pixels": {"weighted": True, "subpixel": False},
    "masks": {"source_mask": mask(7, 31, 38), "target_mask": mask(8, 36, 27)},
    "nothing skipped": {"effort": replace(EFFORT, radius=0, tolerance=0.0)},
    "settles early": {"effort": Effort(6, 2, radius=2, tolerance=40.0)},
}


@pytest.mark.parametrize("name", CASES)
def test_a_synthesis_equals_the_torch_engines_to_the_bit(device: Device, name: str) -> None:
    style, guides, options = example(**CASES[name])
    expected = synthesis.synthesize(style, guides, engine=TorchLevel, **options)
    result = on_gpu(device, style, guides, **options)
    assert np.array_equal(result.nnf, expected.nnf)
    assert np.array_equal(result.error, expected.error)
    assert np.array_equal(result.picture, expected.picture)
    assert result.picture.shape == expected.picture.shape
    assert (result.nnf.dtype, result.error.dtype, result.picture.dtype) == (np.int32, np.float32, np.uint8)


@pytest.mark.parametrize(
    ("name", "softness"),
    [("patch 3", 0.0), ("patch 5", 1e-7), ("patch 7", 0.0), ("gray", 0.0), ("4 style channels", 1e-7)],
)
def test_the_refinement_equals_that_of_the_cpu_to_the_bit(device: Device, name: str, softness: float) -> None:
    style, guides, options = example(**CASES[name])
    problem = build_problem(style, guides, finest_only=1, **options)
    field = first_field(problem, None)
    on_cpu = NumbaLevel(problem, problem.levels[0], field, 1)
    with device.current():
        on_device = CudaLevel(device, problem, there(problem.levels[0]), torch.from_numpy(field.copy()))
        for state in (on_cpu, on_device):
            state.vote()
            state.settle()
            state.refine(softness)
        fine = on_device.quarter_pixels()[..., : problem.style_channels]
    assert np.array_equal(on_cpu.target, on_device.target.numpy())
    assert np.array_equal(quarter_pixels(problem.levels[0], problem), fine.numpy())


def test_a_given_field_starts_the_finest_levels(device: Device) -> None:
    style, guides, options = example(patch=3)
    start = np.random.default_rng(0).integers(-3, 45, (36, 27, 2)).astype(np.int32)
    expected = synthesis.synthesize(style, guides, start=start, start_levels=2, engine=TorchLevel, **options)
    result = on_gpu(device, style, guides, start=start, start_levels=2, **options)
    assert np.array_equal(result.nnf, expected.nnf)


def test_the_order_of_the_threads_does_not_matter(device: Device, standin: Any) -> None:
    style, guides, options = example(weighted=True)
    forwards = on_gpu(device, style, guides, **options)
    standin.backwards = 1
    backwards = on_gpu(device, style, guides, **options)
    assert np.array_equal(forwards.nnf, backwards.nnf)
    assert np.array_equal(forwards.error, backwards.error)
    assert np.array_equal(forwards.picture, backwards.picture)


def test_another_seed_gives_another_field(device: Device) -> None:
    style, guides, options = example()
    fields = [on_gpu(device, style, guides, **{**options, "seed": seed}).nnf for seed in (1, 1, 2)]
    assert np.array_equal(fields[0], fields[1])
    assert not np.array_equal(fields[0], fields[2])


@pytest.mark.parametrize("kind", ["rotation", "parallax"])
def test_the_error_is_that_of_numba_within_1_percent(device: Device, kind: str) -> None:
    frames, _ = clip(kind, 3, 96)
    style, guides = restyle(frames[0]), [Guide(frames[0], frames[2], 6.0)]
    made = on_gpu(device, style, guides, effort=EFFORTS["default"])
    on_cpu = synthesis.synthesize(style, guides, effort=EFFORTS["default"], threads=1)
    assert made.error.mean() < on_cpu.error.mean() * 1.01


@pytest.mark.parametrize("name", ["patch 3", "32 lanes", "gray", "masks"])
def test_the_pyramid_equals_that_of_the_cpu(name: str) -> None:
    style, guides, options = example(**CASES[name])
    expected = build_problem(style, guides, **options)
    style, guides = there((style, guides))
    result = build_problem(style, guides, **{name: there(value) for name, value in options.items()})
    assert len(result.levels) == len(expected.levels) > 1
    for mine, theirs in zip(result.levels, expected.levels, strict=True):
        for part in ("source", "target", "barrier", "wanted"):
            tensor, array = getattr(mine, part).numpy(), getattr(theirs, part)
            assert tensor.dtype == array.dtype
            assert np.array_equal(tensor, array)
        assert result.unit(mine) == expected.unit(theirs)
    assert _parameters(result) == _parameters(expected)


def _parameters(problem: Problem) -> list[object]:
    factors = problem.factors.tolist()
    return [factors, problem.scale, problem.style_channels, problem.patch, problem.effort, problem.seed]
