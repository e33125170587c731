"""An interval on the GPU, until its memory is too small even for bands: then on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from rerender.arrays import HOST, Array, bring, namespace
from rerender.arrays.device import operations_on
from rerender.propagate.bands import LEAST_ROWS, synthesize_in_bands
from rerender.propagate.cuda import engine
from rerender.propagate.cuda.device import Device
from rerender.propagate.cuda.errors import OUT_OF_MEMORY, CudaError
from rerender.propagate.problem import Guide
from rerender.propagate.synthesis import Synthesis

if TYPE_CHECKING:
    from rerender.propagate.backend import HostBackend

_log = logging.getLogger(__name__)

_BANDS = (1, 2, 4, 8)

Result = TypeVar("Result")


class CudaBackend:
    """A GPU to work at; see `Backend`.

    Work that runs out of memory is done again with its synthesis in smaller and smaller bands, and at last on the
    host, as all that comes after it; one line says so each time. That is why work must change none of its arguments.
    """

    ahead = 1  # so that a picture travels while the next one is made

    def __init__(self, device: Device, host: HostBackend) -> None:
        self._device, self._host = device, host
        self._xp = operations_on(device.home)
        self._left = list(_BANDS)  # how many bands a synthesis is cut into; nothing left: the host
        self._rows = 0  # of the picture that is being synthesised

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Return work(*arguments), on the GPU while that is possible."""
        while self._left:
            self._rows = 0
            try:
                with self._device.current(), torch.inference_mode():
                    return work(*bring(arguments, self._xp))
            except (CudaError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                self._retreat(str(error))
            _free_memory()
        return work(*bring(arguments, HOST))

    def here(self, value: Result) -> Result:
        """Bring the arrays of a value to the GPU; to the host when that has taken over."""
        return self.run(_itself, value)

    def fetch(self, array: Array) -> Callable[[], np.ndarray]:
        """Queue the way to the host. What is returned waits until the picture is there."""
        return self.run(_fetch, array)

    def synthesize(self, style: Array, guides: Sequence[Guide], start: Array | None, wanted: Array | None) -> Synthesis:
        """See `Backend`."""
        if isinstance(style, np.ndarray):
            return self._host.synthesize(style, guides, start, wanted)
        self._rows = guides[0].target.shape[0]
        options, count = self._host.options(start, wanted), self._left[0]
        on_gpu = partial(engine.synthesize, self._device)
        if count == 1:
            return on_gpu(style, guides, **options)
        return synthesize_in_bands(on_gpu, count, style, guides, **options)

    def release(self) -> None:
        """Free the constants on the GPU."""
        self._xp.release()

    def _retreat(self, reason: str) -> None:
        self._left = [count for count in self._left[1:] if self._rows >= count * LEAST_ROWS]
        way = f"in {self._left[0]} bands" if self._left else "on the CPU"
        _log.warning("the GPU has too little free memory for the propagation, it goes on %s: %s", way, reason)


def _itself(value: Result) -> Result:
    return value


def _fetch(array: Array) -> Callable[[], np.ndarray]:
    return namespace(array).fetch(array)


def _free_memory() -> None:
    """Give back what torch keeps of the failed attempt."""
    torch.cuda.empty_cache()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, CudaError) and error.code == OUT_OF_MEMORY
    )
