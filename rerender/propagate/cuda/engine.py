"""A synthesis on the GPU: the schedule of docs/propagation.md, queued without waiting for the device once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.level import CudaLevel
from rerender.propagate.problem import EFFORTS, Effort, Guide, Level, Problem, build_problem
from rerender.propagate.synthesis import Synthesis, first_field


def synthesize(
    device: Device,
    style: torch.Tensor,
    guides: Sequence[Guide],
    *,
    effort: Effort = EFFORTS["default"],
    start: torch.Tensor | None = None,
    start_levels: int = 0,
    **options: Any,
) -> Synthesis:
    """Do what `synthesis.synthesize` does, on a GPU, with tensors that lie there.

    Raises:
        UserError: pictures that do not fit together.
        CudaError, torch.cuda.OutOfMemoryError: the GPU refuses.
    """
    finest_only = start_levels if start is not None else 0
    with device.current(), torch.inference_mode():
        problem = build_problem(style, guides, effort=effort, finest_only=finest_only, **options)
        return _solve(device, problem, style.ndim == 2, start)


def _solve(device: Device, problem: Problem, gray: bool, start: torch.Tensor | None) -> Synthesis:
    nnf = first_field(problem, start)
    for index, level in enumerate(problem.levels):
        if index > 0:
            nnf = _upsample(device, nnf, level, problem.patch // 2)
        state = CudaLevel(device, problem, level, nnf)
        radius = problem.effort.radius
        if radius == 0 or (index == 0 and start is None):
            radius = max(level.barrier.shape)
        state.run(index, radius)
        nnf = state.nnf
    return _result(problem, state, gray)


def _result(problem: Problem, state: CudaLevel, gray: bool) -> Synthesis:
    softness = 1.0 / (problem.scale**2 * problem.patch**2 * 10.0) if problem.weighted else 0.0
    if problem.subpixel:
        state.settle()
        state.refine(softness)
    elif problem.weighted:
        state.settle()
        state.vote(softness)
    state.settle()
    picture = state.picture()
    error = state.errors.float() / float(np.float32(problem.scale**2))
    return Synthesis(picture[..., 0] if gray else picture, state.nnf, error)


def _upsample(device: Device, nnf: torch.Tensor, level: Level, half: int) -> torch.Tensor:
    fine = torch.empty((*level.target_shape, 2), dtype=torch.int32, device=device.home)
    device.launch(
        "upsample", level.target_shape, nnf, fine, *level.target_shape, nnf.shape[1], *level.barrier.shape, half
    )
    return fine
