"""That all of an interval lies where the backend works, and that no work depends on a value: with tensors without any.

A tensor on torch's device "meta" has a shape and a type, and no values. Torch refuses to mix it with one on the CPU,
and to ask it for a value or for how many there are: what would fail on a GPU, or wait for it, fails here without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from rerender.arrays.device import operations_on
from rerender.propagate import PropagationSettings, backend, propagate_interval
from rerender.propagate.backend import HostBackend
from rerender.propagate.cuda.backend import CudaBackend
from rerender.propagate.cuda.device import _POINTERS, SIGNATURES, Device
from tests.propagate.clips import clip, restyle

HOME = torch.device("meta")


class Nowhere(Device):
    """Checks the arguments of its kernels, and runs none."""

    def current(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    def launch(self, kernel: str, shape: tuple[int, int], *arguments: torch.Tensor | float) -> None:
        for code, value in zip(SIGNATURES[kernel], arguments, strict=True):
            if isinstance(value, torch.Tensor):
                assert (value.device, value.dtype, value.is_contiguous()) == (HOME, _POINTERS[code], True), kernel
            else:
                assert code not in _POINTERS, kernel


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(type(operations_on(HOME)), "fetch", lambda _, array: lambda: array)
    device = Nowhere(0, HOME, None, {})  # type: ignore[arg-type]
    monkeypatch.setattr(backend, "make_backend", lambda settings: CudaBackend(device, HostBackend(settings)))
    yield
    operations_on(HOME).release()


def pictures(cuts: tuple[int, ...] = (), keys: tuple[bool, bool] = (True, True), **chosen: Any) -> list[Any]:
    frames, flow = clip("rotation", 4, 64)
    first, last = (restyle(frames[at]) if given else None for at, given in zip((0, -1), keys, strict=True))
    settings = PropagationSettings(preset="fast", **chosen)
    return [p for _, p in propagate_interval(frames, first, last, settings, flow=flow, cuts=cuts)]


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"follow": False, "weighted_vote": True, "patch_size": 7},
        {"cuts": (2,), "keys": (True, False)},
        {"temporal": False, "contrast": False, "ghost_check": False},
    ],
)
def test_all_of_it_lies_there_and_depends_on_no_value(chosen: dict[str, Any]) -> None:
    made = pictures(**chosen)
    assert len(made) >= 2
    for picture in made:
        assert (picture.device, picture.dtype, picture.shape) == (HOME, torch.uint8, (64, 64, 3))


@pytest.mark.parametrize(
    "slip",
    [
        lambda usual, self, image: usual(self, image) + torch.ones(3),
        lambda usual, self, image: usual(self, image) * float(image.sum()),
        lambda usual, self, image: usual(self, image) + usual(self, image)[image > 3].mean(),
        lambda usual, self, image: usual(self, image) * np.ones(3, np.float32),
    ],
)
def test_a_slip_would_be_seen(monkeypatch: pytest.MonkeyPatch, slip: Callable[..., Any]) -> None:
    kind = type(operations_on(HOME))
    usual = kind.laplacian
    monkeypatch.setattr(kind, "laplacian", lambda self, image: slip(usual, self, image))
    with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
        pictures()
