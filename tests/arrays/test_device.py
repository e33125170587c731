"""Torch's form of each operation against the host's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from rerender.arrays import HOST, bring, namespace
from rerender.arrays.device import operations_on
from rerender.propagate.guides import pixel_grid

DEVICE = operations_on(torch.device("cpu"))
SHAPE = (37, 52)


def floats(*channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-50, 200, (*SHAPE, *channels)).astype(np.float32)


def picture(*channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, *channels), dtype=np.uint8)


def mask(share: float = 0.2) -> np.ndarray:
    return np.random.default_rng(5).uniform(size=SHAPE) < share


def places() -> np.ndarray:
    wild = np.random.default_rng(7).normal(0, 9, (*SHAPE, 2)).astype(np.float32)
    return pixel_grid(*SHAPE) + np.round(wild * 64) / 64  # ties of 1/32 pixel among them


def difference(operation: Callable[..., Any], *arguments: Any) -> float:
    """Largest difference of both forms; the shapes and types are the same."""
    host = operation(HOST, *arguments)
    there = operation(DEVICE, *(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments))
    assert namespace(there) is DEVICE
    there = there.numpy()
    assert (there.shape, there.dtype) == (host.shape, host.dtype)
    return float(np.abs(there.astype(np.float64) - host.astype(np.float64)).max())


@pytest.mark.parametrize("image", [floats(), floats(3), picture(3), picture()])
@pytest.mark.parametrize("side", [3, 7, 9])
def test_the_largest_and_smallest_around_are_the_same(image, side):
    assert difference(lambda xp, a: xp.dilate(a, side), image) == 0
    assert difference(lambda xp, a: xp.erode(a, side), image) == 0


def test_a_mask_grows_alike_and_stays_a_mask():
    assert difference(lambda xp, a: xp.dilate(a, 7), mask(0.01)) == 0


@pytest.mark.parametrize("image", [floats(), floats(3)])
@pytest.mark.parametrize("side", [5, 9, 15])
def test_means_differ_by_rounding_alone(image, side):
    assert difference(lambda xp, a: xp.blur(a, side), image) < 1e-4


def test_gaussians_differ_by_rounding_alone():
    assert difference(lambda xp, a: xp.gaussian(a, 1.5), floats()) < 1e-4


@pytest.mark.parametrize("image", [picture(), picture(3)])
def test_laplacians_are_the_same(image):
    assert difference(lambda xp, a: xp.laplacian(a), image) == 0


def test_small_pictures_are_mirrored_more_than_once():
    assert difference(lambda xp, a: xp.blur(a, 15), floats(3)[:7, :9]) < 1e-4


@pytest.mark.parametrize("image", [floats(), floats(3), picture(3)])
@pytest.mark.parametrize(("kernel", "most"), [("lanczos", 2e-4), ("cubic", 2e-4), ("nearest", 0)])
def test_samples_are_those_of_opencv(image, kernel, most):
    assert difference(lambda xp, a, p: xp.sample(a, p, kernel), image, places()) <= most


@pytest.mark.parametrize(("image", "mode", "most"), [
    (floats(), "bilinear", 1e-3), (floats(3), "bilinear", 1e-3), (floats(2).astype(np.int32), "nearest", 0),
])  # fmt: skip
def test_warps_are_the_same(image, mode, most):
    assert difference(lambda xp, a, f: xp.warp(a, f, mode), image, places() - pixel_grid(*SHAPE)) <= most


@pytest.mark.parametrize("image", [floats(), floats(3), picture(3)])
def test_margins_are_the_same(image):
    assert difference(lambda xp, a: xp.pad(a, 2, 3), image) == 0
    assert difference(lambda xp, a: xp.pad(a, 0, 1), image) == 0
    assert difference(lambda xp, a: xp.pad_zero(a, 2), image) == 0


@pytest.mark.parametrize("share", [0, 0.001, 0.2, 0.7, 1])
@pytest.mark.parametrize("most", [4.0, 1e3])
def test_the_median_under_a_mask_is_numpys(share, most):
    values, chosen = floats(), mask(share)
    chosen[0, 0] = share > 0
    expected = min(float(np.median(values[chosen])), most) if share else 0
    assert HOST.median_of(values, chosen, most) == expected
    found = DEVICE.median_of(torch.from_numpy(values), torch.from_numpy(chosen), most)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("array", [floats(), floats(3), floats(2)[:24, :31], floats()[:1], floats(3)[:, :1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosine_transforms_are_scipys_and_undo_themselves(array, dtype):
    array = array.astype(dtype)
    most = 1e-3 if dtype is np.float32 else 1e-9  # of values up to 4e3
    assert difference(lambda xp, a: xp.dct(a), array) < most
    assert difference(lambda xp, a: xp.inverse_dct(a), array) < most
    there = torch.from_numpy(array)
    assert (DEVICE.inverse_dct(DEVICE.dct(there)) - there).abs().max() < most / 5


def exact_lab(rgb: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    encoded = rgb.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ matrix.T / [0.950456, 1, 1.088754]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def test_lab_is_exact_where_opencvs_table_is_near():
    rgb = np.concatenate([picture(3), picture(3, seed=1) // 16])
    there = DEVICE.to_lab(torch.from_numpy(rgb)).numpy()
    assert np.abs(there - exact_lab(rgb)).max() < 2e-3
    assert np.abs(HOST.to_lab(rgb) - exact_lab(rgb)).max() < 0.6
    assert np.array_equal(DEVICE.from_lab(torch.from_numpy(there)).numpy(), rgb)


def test_lab_comes_back_as_the_same_picture():
    lab = HOST.to_lab(picture(3)) + np.random.default_rng(3).normal(0, 9, (*SHAPE, 3)).astype(np.float32)  # out of sRGB
    assert difference(lambda xp, a: xp.from_lab(a), lab) <= 1
    same = DEVICE.from_lab(torch.from_numpy(lab)).numpy() == HOST.from_lab(lab)
    assert same.mean() > 0.995


def test_a_constant_is_made_once_until_it_is_released():
    made = []

    def make(size: int) -> np.ndarray:
        made.append(size)
        return np.ones(size)

    assert DEVICE.constant(make, 3) is DEVICE.constant(make, 3)
    assert DEVICE.constant(make, 4).shape == (4,)
    assert made == [3, 4]
    DEVICE.release()
    DEVICE.constant(make, 3)
    assert made == [3, 4, 3]
    DEVICE.release()


class Recorder:
    """CUDA's side of a copy: what is asked of it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        empty, copy, numpy = torch.empty, torch.Tensor.copy_, torch.Tensor.numpy

        def pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            self.calls.append(f"pin_memory={pin_memory}")
            return empty(*shape, **options)

        def copied(tensor: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            self.calls.append(f"copy non_blocking={non_blocking}")
            return copy(tensor, source)

        def moved(tensor: torch.Tensor, home: torch.device, non_blocking: bool = False) -> torch.Tensor:
            self.calls.append(f"to {home} non_blocking={non_blocking}")
            return tensor

        def read(tensor: torch.Tensor) -> np.ndarray:
            self.calls.append("read")
            return numpy(tensor)

        event = type(
            "Event", (), {name: lambda _, name=name: self.calls.append(name) for name in ("record", "synchronize")}
        )
        monkeypatch.setattr(torch.cuda, "Event", event)
        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(torch.Tensor, "copy_", copied)
        monkeypatch.setattr(torch.Tensor, "to", moved)
        monkeypatch.setattr(torch.Tensor, "numpy", read)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.calls.append("pin") or tensor)


def test_copies_to_and_from_a_gpu_are_queued_and_waited_for_only_when_read(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, expected = operations_on(torch.device("cuda", 0)), picture(3)
    tensor, recorder = torch.from_numpy(expected), Recorder(monkeypatch)
    landed = gpu.fetch(tensor)
    assert recorder.calls == ["pin_memory=True", "copy non_blocking=True", "record"]
    assert np.array_equal(landed(), expected)
    assert recorder.calls[3:] == ["synchronize", "read"]
    recorder.calls.clear()
    gpu.here(expected)
    gpu.here(expected[:0])
    assert recorder.calls == ["pin", "to cuda:0 non_blocking=True", "to cuda:0 non_blocking=True"]


def test_what_lies_there_already_comes_back_as_it_is() -> None:
    value = [(DEVICE.zeros((2,), torch.int32), 3), Named("a", HOST.zeros((2,), np.uint8))]
    moved = bring(value, DEVICE)
    assert moved[0] is value[0]
    assert isinstance(moved[1].array, torch.Tensor)
    assert bring(moved, DEVICE) is moved
    assert isinstance(bring(moved, HOST)[0][0], np.ndarray)


@dataclass(frozen=True)
class Named:
    name: str
    array: Any
