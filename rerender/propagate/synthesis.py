"""Guided patch synthesis: paint the target in the style of the source, patch by patch, from coarse to fine.

The algorithm is that of EbSynth (Jamriška et al., "Stylizing Video by Example", SIGGRAPH 2019; StyLit,
SIGGRAPH 2016) with PatchMatch (Barnes et al., SIGGRAPH 2009) as its search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from rerender.arrays import Array, namespace
from rerender.propagate.checks import check_start
from rerender.propagate.problem import EFFORTS, Effort, Guide, Level, Problem, build_problem, mix

_log = logging.getLogger(__name__)

Engine = Callable[[Problem, Level, np.ndarray], Any]
"""(problem, level, field) to the state of a level: see `NumbaLevel`."""


@dataclass(frozen=True)
class Synthesis:
    """What a synthesis returns, where its pictures lay.

    Attributes:
        picture: (Ht, Wt) or (Ht, Wt, C) uint8, like the style.
        nnf: (Ht, Wt, 2) int32, the (x, y) of the source pixel that each target pixel's patch is centred at.
        error: (Ht, Wt) float32, the sum over the patch of Σ weight·difference², on the 0–255 scale.
    """

    picture: Array
    nnf: Array
    error: Array


def synthesize(
    style: np.ndarray,
    guides: Sequence[Guide],
    *,
    effort: Effort = EFFORTS["default"],
    start: np.ndarray | None = None,
    start_levels: int = 0,
    threads: int = 0,
    engine: Engine | None = None,
    **options: Any,
) -> Synthesis:
    """Synthesise the picture whose guides are the targets', from patches of `style`.

    Args:
        style: (Hs, Ws) or (Hs, Ws, 1–4) uint8.
        guides: at least one, at most 24 channels together.
        effort: rounds and passes; `EFFORTS` has the presets.
        start: (Ht, Wt, 2) int32, a field to start from instead of a random one.
        start_levels: with `start`, how many of the finest levels to run (0: all).
        threads: 0 takes one for each core. The result does not depend on it.
        engine: makes the state of a level; the CPU's where left out.
        options: patch, style_weight, uniformity, source_mask, target_mask, weighted, subpixel, seed; see
            `build_problem`.

    Raises:
        UserError: pictures, weights or a start that do not fit together.
    """
    finest_only = start_levels if start is not None else 0
    problem = build_problem(style, guides, effort=effort, finest_only=finest_only, **options)
    return solve(problem, style.ndim == 2, start, engine or cpu_engine(threads))


def cpu_engine(threads: int = 0) -> Engine:
    """Return the numba engine, or torch's where numba is missing."""
    try:
        from rerender.propagate.numba_engine import NumbaLevel
    except ImportError:
        from rerender.propagate.torch_engine import TorchLevel

        _say_once("numba is not installed: propagation runs on torch alone, many times slower (pip install numba)")
        return TorchLevel
    return partial(NumbaLevel, threads=threads)


def solve(problem: Problem, gray: bool, start: np.ndarray | None, engine: Engine) -> Synthesis:
    """Run all levels of a problem."""
    nnf = first_field(problem, start)
    for index, level in enumerate(problem.levels):
        if index > 0:
            nnf = upsample(nnf, level)
        state = engine(problem, level, nnf)
        radius = problem.effort.radius
        if radius == 0 or (index == 0 and start is None):
            radius = max(level.barrier.shape)
        _run_level(problem, index, state, radius)
        nnf = state.nnf
    softness = 1.0 / (problem.scale**2 * problem.patch**2 * 10.0) if problem.weighted else 0.0
    if problem.subpixel:
        state.settle()
        state.refine(softness)
    elif problem.weighted:
        state.settle()
        state.vote(softness)
    state.settle()
    picture = np.clip(np.rint(state.picture()), 0, 255).astype(np.uint8)
    error = state.errors.astype(np.float32) / np.float32(problem.scale**2)
    return Synthesis(picture[..., 0] if gray else picture, state.nnf, error)


def _run_level(problem: Problem, index: int, state: Any, radius: int) -> None:
    effort = problem.effort
    state.vote()
    state.activate_all()
    for number in range(effort.rounds):
        for step in range(effort.passes):
            count = number * effort.passes + step
            state.search(
                reverse=count % 2 == 1,
                rescore=step == 0,
                propagate=True,
                radius=radius,
                key=problem.pass_key(index, count),
                shift=16 * (count % 2),
            )
        moving = state.vote()
        if effort.tolerance == 0:
            state.activate_all()
        elif not moving:
            return


def first_field(problem: Problem, start: Array | None) -> Array:
    """Return the (H, W, 2) int32 field that the coarsest level starts from: random, or the given one shrunk.

    Raises:
        UserError: the given one is of another size than the target, or not of int32.
    """
    level, half = problem.levels[0], problem.patch // 2
    if start is None:
        return namespace(level.source).here(_random_field(problem))
    check_start(start, problem.levels[-1].target_shape)
    for _ in problem.levels[1:]:
        start = start[::2, ::2] // 2
    return _clamp(start, level, half)


def _random_field(problem: Problem) -> np.ndarray:
    level, half = problem.levels[0], problem.patch // 2
    height, width = level.target_shape
    rows, columns = level.barrier.shape
    pixels = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    random = [mix(pixels ^ np.uint32(problem.pass_key(0, axis + (1 << 20)))) for axis in range(2)]
    sizes = (columns, rows)
    drawn = [(r.astype(np.uint64) * (n - 2 * half) >> 32) + half for r, n in zip(random, sizes, strict=True)]
    return np.stack(drawn, -1).astype(np.int32)


def upsample(nnf: np.ndarray, level: Level) -> np.ndarray:
    """Carry a field to the level below (twice as fine): x = 2·X + r points at 2·NNF(X) + r."""
    height, width = level.target_shape
    y, x = np.arange(height), np.arange(width)
    fine = nnf[(y // 2)[:, None], (x // 2)[None]] * 2
    fine[..., 0] += (x % 2)[None].astype(np.int32)
    fine[..., 1] += (y % 2)[:, None].astype(np.int32)
    half = (level.target.shape[0] - height) // 2
    return _clamp(fine, level, half)


def _clamp(nnf: Array, level: Level, half: int) -> Array:
    xp = namespace(nnf)
    limited = [xp.clip(nnf[..., axis], half, level.barrier.shape[1 - axis] - 1 - half) for axis in range(2)]
    return xp.astype(xp.stack(limited, -1), xp.int32)


@cache
def _say_once(message: str) -> None:
    _log.warning(message)
