"""Each step of the method on torch's tensors, against the same step on numpy's arrays."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from rerender.arrays import HOST, bring
from rerender.arrays.device import operations_on
from rerender.outlines import outline_picture
from rerender.propagate.attachment import shared_motion
from rerender.propagate.blend import blend, carry_weight, credit, finish
from rerender.propagate.detail import missing_detail
from rerender.propagate.follow import Key, sample_picture, trust_in_flow
from rerender.propagate.guides import Input, frame_guides, pixel_grid
from rerender.propagate.holes import plan_filling
from rerender.propagate.poisson import screened_poisson
from rerender.propagate.settings import PropagationSettings
from rerender.propagate.sweep import Swept
from tests.propagate.clips import clip, restyle
from tests.propagate.test_poisson import solved_directly

SHAPE = (48, 61)
DEVICE = operations_on(torch.device("cpu"))


@pytest.fixture
def same_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours by the same formulas: OpenCV takes them from a table."""
    monkeypatch.setattr(type(HOST), "to_lab", lambda _, rgb: DEVICE.to_lab(torch.from_numpy(rgb)).numpy())


def numbers(*shape: int, seed: int = 0, most: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, most, shape).astype(np.float32)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def soft(seed: int, most: float) -> np.ndarray:
    """A flow of slow waves."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / 9 + seed
    return (np.stack([np.sin(x) * np.cos(y), np.cos(x + y)], -1) * most).astype(np.float32)


def away(value: Any, expected: Any) -> float:
    """Largest difference of two results of one kind, at whatever depth."""
    if is_dataclass(expected) and not isinstance(expected, type):
        return max(away(getattr(value, field.name), getattr(expected, field.name)) for field in fields(expected))
    if isinstance(expected, (list, tuple)):
        assert len(value) == len(expected)
        return max(away(*pair) for pair in zip(value, expected, strict=True))
    if not isinstance(expected, np.ndarray):
        assert value == expected
        return 0.0
    assert isinstance(value, torch.Tensor)
    there = value.numpy()
    assert (there.shape, there.dtype) == (expected.shape, expected.dtype)
    return float(np.abs(there.astype(np.float64) - expected).max())


def difference(work: Any, *arguments: Any) -> float:
    there = bring(arguments, operations_on(torch.device("cpu")))
    return away(work(*there), work(*arguments))


def swept(seed: int) -> Swept:
    maps = (numbers(*SHAPE, seed=seed + number, most=most) for number, most in enumerate((4000, 1, 1, 60)))
    return Swept(picture(seed), *maps)


def test_guides() -> None:
    settings = PropagationSettings()
    key, here = (Input.of(picture(seed)) for seed in (0, 2))
    arguments = (settings, key, picture(1), here, soft(0, 9), picture(3).astype(np.float32))
    assert difference(frame_guides, *arguments) < 1e-4


def test_outlines() -> None:
    assert difference(outline_picture, picture()) < 1e-3
    assert difference(outline_picture, clip("rotation", 2, 64)[0][0]) < 1e-3


def test_shared_motion() -> None:
    frames = clip("translation", 3, 64)[0]
    key, here = (Input.of(frame) for frame in frames[::2])
    motion = np.random.default_rng(0).integers(-3, 4, (8, 8, 5)).repeat(8, 0).repeat(8, 1).astype(np.float32)
    there = bring((key, here, motion), DEVICE)
    mine, theirs = shared_motion(*there), shared_motion(key, here, motion)
    assert 0.05 < theirs[1].mean() < 0.95
    assert (mine[1].numpy() == theirs[1]).mean() > 0.999  # near-ties may fall to either side


@pytest.mark.parametrize("seen", [1.0, 0.0])
def test_trust(seen: float) -> None:
    frames, _ = clip("rotation", 2, 64)
    key = Key.of(frames[0], restyle(frames[0]))
    places = pixel_grid(64, 64) + np.float32(0.4) + soft(1, 1)[:48, :48].repeat(2, 0).repeat(2, 1)[:64, :64]
    mask = np.full((64, 64), seen, np.float32)
    mask[:9] = 0
    here = Input.of(frames[1])
    trust = trust_in_flow(key, here, places, mask)
    assert (trust.max() > 0.5) == bool(seen)
    assert difference(trust_in_flow, key, here, places, mask) < 1e-4


def test_following() -> None:
    key = Key.of(picture(0), picture(1))
    assert difference(sample_picture, key, pixel_grid(*SHAPE) + soft(2, 7)) < 1e-3


def test_filling() -> None:
    holes = soft(3, 1)[..., 0] > 0.5
    values = numbers(*SHAPE, 5, most=255)
    plan = plan_filling(holes, numbers(*SHAPE, 4, most=3))
    assert len(plan.sizes) > 3
    assert difference(type(plan).of, plan, values) < 1e-3
    assert difference(type(plan).of, plan_filling(holes & False, values), values) == 0


def test_credit_and_the_latch() -> None:
    assert difference(credit, swept(0)) < 1e-6
    assert difference(carry_weight, numbers(*SHAPE), soft(4, 5), soft(3, 1)[..., 0] > 0.5) < 1e-6


def test_missing_detail() -> None:
    lab, wanted = numbers(*SHAPE, 3, most=100), numbers(*SHAPE, seed=1, most=60)
    assert difference(missing_detail, lab, wanted, numbers(*SHAPE, seed=2)) < 1e-2


def test_finishing(same_lab: None) -> None:
    mine, theirs = (finish(*bring((swept(0), PropagationSettings()), place)) for place in (DEVICE, HOST))
    levels = np.abs(mine.numpy().astype(int) - theirs)
    assert levels.max() <= 1
    assert (levels == 0).mean() > 0.99


@pytest.mark.parametrize("latched", [None, numbers(*SHAPE, seed=9)])
def test_blending(same_lab: None, latched: np.ndarray | None) -> None:
    arguments = (swept(0), swept(5), 0.4, PropagationSettings(), latched)
    mine, theirs = blend(*bring(arguments, DEVICE)), blend(*arguments)
    assert away(mine.weight, theirs.weight) < 1e-3
    levels = np.abs(mine.picture.numpy().astype(int) - theirs.picture)
    assert levels.max() <= 1
    assert (levels == 0).mean() > 0.99


@pytest.mark.parametrize(("height", "width"), [(23, 31), (48, 36), (1, 9), (40, 1)])
@pytest.mark.parametrize("gain", [0.5, 2.5, 20.0])
def test_poisson_is_the_solution_of_the_sparse_system(height: int, width: int, gain: float) -> None:
    values, gx, gy, exact = solved_directly(height, width, gain)
    solved = screened_poisson(*(torch.from_numpy(array) for array in (values, gx, gy)), gain).numpy()
    assert solved.dtype == np.float32
    assert np.abs(solved - exact).max() < 1e-3
