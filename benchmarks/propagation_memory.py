"""GPU memory of a propagation, added up without a GPU: the interval runs on tensors that have sizes and no values.

What torch keeps for itself, its context and the allocator's rounding, comes on top.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from rerender.arrays.device import operations_on
from rerender.propagate import PropagationSettings, backend, propagate_interval
from rerender.propagate.backend import HostBackend
from rerender.propagate.cuda.backend import CudaBackend
from rerender.propagate.cuda.device import Device

_NOWHERE = torch.device("meta")


class _Nowhere(Device):
    """A device without kernels."""

    def current(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Nothing to make current."""
        return nullcontext()

    def launch(self, kernel: str, shape: tuple[int, int], *arguments: torch.Tensor | float) -> None:
        """Nothing to launch."""


class _Memory(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, torch.Tensor) and tensor.device == _NOWHERE:
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def peak_bytes(height: int, width: int, gap: int, settings: PropagationSettings | None = None) -> int:
    """Most bytes of tensors at once while an interval of two keys is propagated.

    Args:
        height, width: of the frames.
        gap: frames from key to key.
        settings: defaults where left out.
    """
    frames = list(np.random.default_rng(0).integers(0, 256, (gap + 1, height, width, 3), dtype=np.uint8))
    still, device = np.zeros((height, width, 2), np.float32), _Nowhere(0, _NOWHERE, None, {})  # type: ignore[arg-type]
    settings = settings or PropagationSettings()
    memory, xp = _Memory(), operations_on(_NOWHERE)
    with (
        memory,
        patch.object(type(xp), "fetch", lambda _, array: lambda: array),
        patch.object(backend, "make_backend", lambda _: CudaBackend(device, HostBackend(settings))),
    ):
        for _ in propagate_interval(frames, frames[0], frames[-1], settings, flow=lambda *_: still):
            pass
    return memory.peak
