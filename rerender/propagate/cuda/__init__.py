"""Propagation on NVIDIA GPUs: nothing to install, nothing to compile, and the CPU wherever it does not work."""

from __future__ import annotations

from rerender.propagate.cuda.errors import CudaError, NoGpuError

__all__ = ["CudaError", "NoGpuError", "usable", "why_not"]


def usable() -> bool:
    """Whether "auto" means the GPU here."""
    return why_not() is None


def why_not() -> CudaError | None:
    """Return what keeps the GPU from being used, None if nothing does.

    The driver is asked first: without one, torch need not be imported by a process that only propagates.
    """
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
