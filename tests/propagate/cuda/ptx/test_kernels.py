"""The committed PTX runs: equal to the torch engine to the bit, aligned, in bounds, without races."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from rerender.propagate import PropagationSettings, backend, propagate_interval, synthesis
from rerender.propagate.backend import HostBackend
from rerender.propagate.cuda import engine
from rerender.propagate.cuda.backend import CudaBackend
from rerender.propagate.cuda.device import SIGNATURES, Device
from rerender.propagate.cuda.errors import CudaError
from rerender.propagate.problem import EFFORTS, Effort, Problem, build_problem
from rerender.propagate.torch_engine import TorchLevel
from tests.propagate.clips import clip, restyle
from tests.propagate.cuda.conftest import there
from tests.propagate.cuda.examples import example, mask, on_gpu
from tests.propagate.cuda.ptx.driver import InterpretedDevice

SIZES: dict[str, Any] = {"source": (20, 17), "target": (17, 20), "effort": Effort(2, 1, radius=4, tolerance=2.0)}
MASKS: dict[str, Any] = {"source_mask": mask(7, 20, 17), "target_mask": mask(8, 17, 20)}

CASES: dict[str, dict[str, Any]] = {
    "patch 3": {"patch": 3, **MASKS},
    "patch 5": {"patch": 5},
    "patch 7": {"patch": 7, "style_channels": 4, **MASKS},
    "32 lanes, patch 3": {"patch": 3, "channels": 20},
    "32 lanes, patch 5": {"patch": 5, "channels": 20, **MASKS},
    "32 lanes, patch 7": {"patch": 7, "channels": 20},
    "gray": {"gray": True},
    "no occupancy": {"uniformity": 0.0},
    "strong occupancy": {"uniformity": 1e6},
    "weighted": {"weighted": True},
    "weighted, whole pixels": {"weighted": True, "subpixel": False, "style_channels": 4},
    "whole pixels": {"patch": 3, "subpixel": False},
    "settles early": {"patch": 3, "effort": Effort(4, 1, radius=2, tolerance=40.0)},
}


@pytest.fixture(scope="module")
def made(interpreted: InterpretedDevice) -> Callable[[str], synthesis.Synthesis]:
    """Each case, synthesised once."""

    @cache
    def run(name: str) -> synthesis.Synthesis:
        style, guides, options = example(**{**SIZES, **CASES[name]})
        return on_gpu(interpreted, style, guides, **options)

    return run


def same(one: synthesis.Synthesis, other: synthesis.Synthesis) -> bool:
    parts = (one.nnf, other.nnf), (one.error, other.error), (one.picture, other.picture)
    return all(np.array_equal(mine, theirs) for mine, theirs in parts)


@pytest.mark.parametrize("name", CASES)
def test_a_synthesis_equals_the_torch_engines_to_the_bit(made: Callable[[str], synthesis.Synthesis], name: str) -> None:
    style, guides, options = example(**{**SIZES, **CASES[name]})
    expected, result = synthesis.synthesize(style, guides, engine=TorchLevel, **options), made(name)
    assert same(result, expected)


def below_zero(array: Any, seed: int) -> Any:
    """Move all lanes of an int16 picture, also those without a channel, each by its own number."""
    rng = np.random.default_rng(seed)
    moved = rng.integers(-150, -90, array.shape[-1]) + rng.integers(-9, 9, array.shape)
    return array + (there(moved.astype(np.int16)) if isinstance(array, torch.Tensor) else moved.astype(np.int16))


@pytest.mark.parametrize("patch", [3, 5, 7])
def test_all_lanes_count_and_have_a_sign(
    interpreted: InterpretedDevice, monkeypatch: pytest.MonkeyPatch, patch: int
) -> None:
    """Pictures use some lanes, and no value below 0."""

    def build(*arguments: Any, **options: Any) -> Problem:
        problem = build_problem(*arguments, **options)
        levels = [
            replace(level, source=below_zero(level.source, 1), target=below_zero(level.target, 2))
            for level in problem.levels
        ]
        return replace(problem, levels=tuple(levels))

    for module in (synthesis, engine):
        monkeypatch.setattr(module, "build_problem", build)
    options: dict[str, Any] = {"patch": patch, "channels": 20, "subpixel": False, "effort": Effort(1, 1, radius=2)}
    style, guides, options = example(**{**SIZES, **options})
    expected = synthesis.synthesize(style, guides, engine=TorchLevel, **options)
    assert same(on_gpu(interpreted, style, guides, **options), expected)


def test_these_cases_run_all_of_the_text(
    interpreted: InterpretedDevice, made: Callable[[str], synthesis.Synthesis]
) -> None:
    for name in CASES:
        made(name)
    assert [block for block, count in interpreted.machine.ran.items() if count == 0] == []


def test_the_text_declares_the_parameters_that_are_passed(interpreted: InterpretedDevice) -> None:
    types = {"I": "u32", "U": "u32", "F": "f32"}
    for name, kernel in interpreted.machine.kernels.items():
        assert [*kernel.parameters.values()] == [types.get(code, "u64") for code in SIGNATURES[name]]


def test_a_pass_must_not_write_the_field_that_it_reads(interpreted: InterpretedDevice) -> None:
    field, uses = torch.zeros(6, 6, 2, dtype=torch.int32), torch.zeros(8, 9, dtype=torch.int32)
    upsample = (6, 6), field, field, 6, 6, 3, 8, 9, 1
    with interpreted.current(), pytest.raises(CudaError, match=r"upsample: line \d+ \(ld.global.nc.v2.u32\).*719"):
        interpreted.launch("upsample", *upsample)
    with interpreted.current(), pytest.raises(CudaError, match=r"spread_rows: line \d+ \(ld.global.nc.u32\).*719"):
        interpreted.launch("spread_rows", (8, 9), uses, uses, torch.ones(1, dtype=torch.int32), 8, 9, 3)


def test_a_tensor_that_is_too_small_is_noticed(interpreted: InterpretedDevice) -> None:
    field, moving = torch.full((6, 6, 2), 7, dtype=torch.int32), torch.ones(1, dtype=torch.int32)
    memory = torch.zeros(9 * 9, dtype=torch.int32)
    with interpreted.current():
        interpreted.launch("count_uses", (6, 6), field, memory[: 7 * 9 + 8], moving, 6, 6, 9)
        with pytest.raises(CudaError, match=r"count_uses: line \d+ \(atom.global.add.u32\).*outside.*700"):
            interpreted.launch("count_uses", (6, 6), field, memory[: 7 * 9 + 7], moving, 6, 6, 9)
    assert memory[7 * 9 + 7] == 36


@pytest.mark.parametrize(
    ("kernel", "old", "new", "why"),
    [
        ("search_5", "+16]", "+8]", "no multiple of 16 .716"),
        ("score_5", "add.s32 \t%r29, %r26, -2;", "add.s32 \t%r29, %r26, 99;", r"ld.global.nc.v4.u32.*outside.*700"),
        ("vote", "ld.global.s16", "ld.global.nc.s16", "written meanwhile .719"),
        ("activate", "mov.u32 \t", "brev.b32 \t", r"line \d+: brev.b32: the instruction is not known .801"),
    ],
)
def test_a_slip_that_a_gpu_might_not_forgive_is_refused(
    changed: Callable[..., InterpretedDevice], kernel: str, old: str, new: str, why: str
) -> None:
    style, guides, options = example(**SIZES)
    with pytest.raises(CudaError, match=why):
        on_gpu(changed(kernel, old, new), style, guides, **options)


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("score_5", "sub.s32 \t%r61,", "add.s32 \t%r61,"),
        ("search_5", "xor.b32", "or.b32"),
        ("vote", "cvt.rni.f32.f32", "cvt.rzi.f32.f32"),
        ("fine_vote", "rcp.rn.f32", "mov.f32"),
        ("quarter_pixels", ", 255;", ", 127;"),
    ],
)
def test_a_slip_in_the_arithmetic_changes_the_result(
    changed: Callable[..., InterpretedDevice],
    made: Callable[[str], synthesis.Synthesis],
    kernel: str,
    old: str,
    new: str,
) -> None:
    style, guides, options = example(**{**SIZES, **CASES["weighted"]})
    result = on_gpu(changed(kernel, old, new), style, guides, **options)
    assert not same(result, made("weighted"))


def test_an_interval_equals_that_of_the_source(
    interpreted: InterpretedDevice, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sweeps and the blend: the text here, its source as g++ compiles it there."""
    monkeypatch.setitem(EFFORTS, "fast", Effort(2, 1, radius=2))
    (frames, flow), made = clip("rotation", 3, 24), []
    settings = PropagationSettings(preset="fast", device="cuda", threads=1)
    before = interpreted.library.launches
    for each in (interpreted, device):
        monkeypatch.setattr(backend, "make_backend", lambda _, each=each: CudaBackend(each, HostBackend(settings)))
        results = propagate_interval(frames, restyle(frames[0]), restyle(frames[2]), settings, flow=flow)
        made.append([picture for _, picture in results])
    assert interpreted.library.launches - before > 50
    assert len(made[0]) == 1
    assert np.array_equal(made[0], made[1])
