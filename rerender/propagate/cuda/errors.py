"""What goes wrong on the way to the GPU; every one of these leads to the CPU, never to a failed run."""

from __future__ import annotations

from rerender.errors import RerenderError

OUT_OF_MEMORY = 2


class CudaError(RerenderError):
    """The GPU cannot be used. `code` is the driver's or NVRTC's number, 0 where there is none."""

    def __init__(self, message: str, *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NoGpuError(CudaError):
    """There is nothing to use: no NVIDIA driver, or a torch without CUDA."""
