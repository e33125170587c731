"""The synthesis on NVIDIA GPUs: nothing to install, nothing to compile, and the CPU wherever it does not work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from rerender.errors import UserError
from rerender.propagate.bands import LEAST_ROWS, synthesize_in_bands
from rerender.propagate.cuda.errors import OUT_OF_MEMORY, CudaError, NoGpuError
from rerender.propagate.problem import Guide
from rerender.propagate.settings import DeviceName
from rerender.propagate.synthesis import Synthesis, synthesize

__all__ = ["CudaError", "choose_synthesis", "usable"]

_log = logging.getLogger(__name__)

_BANDS = (1, 2, 4, 8)


def choose_synthesis(wish: DeviceName) -> Callable[..., Synthesis]:
    """Return `synthesis.synthesize`, or what does the same on the GPU.

    A GPU that runs out of memory gets smaller and smaller bands, and at last hands over to the CPU, for all that the
    returned function is used for; one line says so each time.

    Args:
        wish: "auto" takes the GPU if it can be used, and says why where it cannot.

    Raises:
        UserError: the wish is "cuda", and the GPU cannot be used.
    """
    reason = _why_not() if wish != "cpu" else None
    if wish == "cuda" and reason is not None:
        raise UserError(f"Propagation cannot run on CUDA: {reason}.", hint='Set its device to "auto" or "cpu".')
    if wish == "auto" and reason is not None:
        _say_once(logging.INFO if isinstance(reason, NoGpuError) else logging.WARNING, f"CUDA: {reason}")
    return _OnGpu() if wish != "cpu" and reason is None else synthesize


def usable() -> bool:
    """Whether "auto" means the GPU here."""
    return _why_not() is None


class _OnGpu:
    """`synthesize` on the GPU, whole or in bands, until its memory is too small even for those."""

    def __init__(self) -> None:
        self._left = list(_BANDS)  # how many bands a synthesis is cut into; nothing left: the CPU

    def __call__(self, style: np.ndarray, guides: Sequence[Guide], *, threads: int = 0, **options: Any) -> Synthesis:
        rows = guides[0].target.shape[0]
        while self._left:
            try:
                return synthesize_in_bands(self._run, self._left[0], style, guides, **options)
            except (CudaError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                self._retreat(rows, str(error))
            _free_memory()
        return synthesize(style, guides, threads=threads, **options)

    def _retreat(self, rows: int, reason: str) -> None:
        self._left = [count for count in self._left[1:] if rows >= count * LEAST_ROWS]
        way = f"in {self._left[0]} bands" if self._left else "on the CPU"
        _log.warning("the GPU has too little free memory for the propagation, it goes on %s: %s", way, reason)

    @staticmethod
    def _run(*arguments: Any, **options: Any) -> Synthesis:
        from rerender.propagate.cuda import device, engine

        return engine.synthesize(device.open_device(), *arguments, **options)


def _free_memory() -> None:
    """Give back what torch keeps of the failed attempt."""
    import torch

    torch.cuda.empty_cache()


def _is_memory(error: Exception) -> bool:
    from torch.cuda import OutOfMemoryError

    return isinstance(error, OutOfMemoryError) or (isinstance(error, CudaError) and error.code == OUT_OF_MEMORY)


def _why_not() -> CudaError | None:
    """The driver is asked first: without one, torch need not be imported by a process that only propagates."""
    from rerender.propagate.cuda.driver import open_library

    try:
        open_library()
        from rerender.propagate.cuda.device import open_device

        open_device()
    except CudaError as error:
        # Without its traceback, which holds the frames of all callers, and so an interval of pictures, in a cycle.
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    return None


@cache
def _say_once(level: int, message: str) -> None:
    _log.log(level, "%s; propagation runs on the CPU", message)
