"""Where an interval is computed, chosen once for it: on the host, or on a GPU until its memory is too small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np

from rerender.arrays import Array
from rerender.errors import UserError
from rerender.propagate.cuda import NoGpuError, usable, why_not
from rerender.propagate.problem import EFFORTS, Guide
from rerender.propagate.settings import DeviceName, PropagationSettings
from rerender.propagate.synthesis import Synthesis, synthesize

_log = logging.getLogger(__name__)

_WARM_LEVELS = 3

Result = TypeVar("Result")


class Backend(Protocol):
    """A place to work at.

    Attributes:
        ahead: for how many pictures more work is begun before one is waited for.
    """

    ahead: int

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Return work(*arguments), with the arrays among the arguments brought to where the work is done."""
        ...

    def here(self, value: Result) -> Result:
        """Bring an array, or what holds arrays, to where the work is done."""
        ...

    def fetch(self, array: Array) -> Callable[[], np.ndarray]:
        """Begin to bring an array to the host. What is returned waits until it is there."""
        ...

    def synthesize(self, style: Array, guides: Sequence[Guide], start: Array | None, wanted: Array | None) -> Synthesis:
        """Synthesise, from a field to start from or anew, all of the picture or what a mask wants; inside of `run`."""
        ...

    def release(self) -> None:
        """Free what is kept from call to call."""
        ...


def make_backend(settings: PropagationSettings) -> Backend:
    """Return the place that the settings wish for.

    Raises:
        UserError: they insist on CUDA, and it cannot be used.
    """
    host = HostBackend(settings)
    if not _takes_gpu(settings.device):
        return host
    from rerender.propagate.cuda.backend import CudaBackend
    from rerender.propagate.cuda.device import open_device

    return CudaBackend(open_device(), host)


def on_gpu(settings: PropagationSettings) -> bool:
    """Whether work begins on a GPU with these settings."""
    return settings.device != "cpu" and usable()


def _takes_gpu(wish: DeviceName) -> bool:
    reason = why_not() if wish != "cpu" else None
    if wish == "cuda" and reason is not None:
        raise UserError(f"Propagation cannot run on CUDA: {reason}.", hint='Set its device to "auto" or "cpu".')
    if wish == "auto" and reason is not None:
        _say_once(logging.INFO if isinstance(reason, NoGpuError) else logging.WARNING, f"CUDA: {reason}")
    return wish != "cpu" and reason is None


class HostBackend:
    """The CPU: numba (or torch) for the synthesis, numpy and OpenCV for the rest."""

    ahead = 0

    def __init__(self, settings: PropagationSettings) -> None:
        self._settings = settings

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call it."""
        return work(*arguments)

    def here(self, value: Result) -> Result:
        """Return it."""
        return value

    def fetch(self, array: np.ndarray) -> Callable[[], np.ndarray]:
        """Return what returns it."""
        return lambda: array

    def synthesize(
        self, style: np.ndarray, guides: Sequence[Guide], start: np.ndarray | None, wanted: np.ndarray | None
    ) -> Synthesis:
        """See `Backend`."""
        options = self.options(start, wanted)
        return synthesize(style, guides, threads=self._settings.threads, **options)

    def options(self, start: Array | None, wanted: Array | None) -> dict[str, Any]:
        """Arguments of a synthesis that follow from the settings."""
        settings, usual = self._settings, EFFORTS[self._settings.preset]
        rounds, passes = settings.rounds or usual.rounds, settings.passes or usual.passes
        return {
            "effort": replace(usual, rounds=rounds, passes=passes),
            "start": start,
            "start_levels": _WARM_LEVELS,
            "target_mask": wanted,
            "patch": settings.patch_size,
            "uniformity": settings.uniformity,
            "weighted": settings.weighted_vote,
            "seed": settings.seed,
        }

    def release(self) -> None:
        """Nothing is kept."""


@cache
def _say_once(level: int, message: str) -> None:
    _log.log(level, "%s; propagation runs on the CPU", message)
