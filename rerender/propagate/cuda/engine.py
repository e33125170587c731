"""A synthesis on the GPU: the schedule of docs/propagation.md, queued without waiting for the device once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.level import CudaLevel
from rerender.propagate.cuda.pyramid import DeviceLevel, build_on_device, upload
from rerender.propagate.problem import EFFORTS, Effort, Guide, Problem
from rerender.propagate.synthesis import Synthesis, first_field


def synthesize(
    device: Device,
    style: np.ndarray,
    guides: Sequence[Guide],
    *,
    effort: Effort = EFFORTS["default"],
    start: np.ndarray | None = None,
    start_levels: int = 0,
    **options: Any,
) -> Synthesis:
    """Do what `synthesis.synthesize` does, on a GPU.

    Raises:
        UserError: pictures that do not fit together.
        CudaError, torch.cuda.OutOfMemoryError: the GPU refuses.
    """
    finest_only = start_levels if start is not None else 0
    with device.current(), torch.inference_mode():
        problem = build_on_device(style, guides, device.home, effort=effort, finest_only=finest_only, **options)
        return _solve(device, problem, style.ndim == 2, start)


def solve(problem: Problem, gray: bool, start: np.ndarray | None, device: Device) -> Synthesis:
    """Run all levels of a problem; its levels may lie on the CPU or on the GPU.

    Raises:
        CudaError, torch.cuda.OutOfMemoryError: the GPU refuses.
    """
    with device.current(), torch.inference_mode():
        return _solve(device, problem, gray, start)


def _solve(device: Device, problem: Problem, gray: bool, start: np.ndarray | None) -> Synthesis:
    nnf = torch.from_numpy(first_field(problem, start)).to(device.home)
    for index, level in enumerate(problem.levels):
        on_device = level if isinstance(level, DeviceLevel) else upload(level, device.home)
        if index > 0:
            nnf = _upsample(device, nnf, on_device, problem.patch // 2)
        state = CudaLevel(device, problem, on_device, nnf)
        radius = problem.effort.radius
        if radius == 0 or (index == 0 and start is None):
            radius = max(on_device.barrier.shape)
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
    error = state.errors.cpu().numpy().astype(np.float32) / np.float32(problem.scale**2)
    return Synthesis(picture[..., 0] if gray else picture, state.nnf.cpu().numpy(), error)


def _upsample(device: Device, nnf: torch.Tensor, level: DeviceLevel, half: int) -> torch.Tensor:
    fine = torch.empty((*level.target_shape, 2), dtype=torch.int32, device=device.home)
    device.launch(
        "upsample", level.target_shape, nnf, fine, *level.target_shape, nnf.shape[1], *level.barrier.shape, half
    )
    return fine
