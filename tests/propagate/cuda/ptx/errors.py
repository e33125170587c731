"""What the machine refuses, with the code by which a driver would report it."""

from __future__ import annotations


class PtxError(Exception):
    """A launch failed (CUDA_ERROR_LAUNCH_FAILED): here, because its threads get in each other's way."""

    code = 719


class NotUnderstoodError(PtxError):
    """Text that this interpreter does not know (CUDA_ERROR_NOT_SUPPORTED)."""

    code = 801

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")


class WildAddressError(PtxError):
    """An address outside all that the launch was given (CUDA_ERROR_ILLEGAL_ADDRESS)."""

    code = 700


class MisalignedError(PtxError):
    """An address that is no multiple of the size of the access (CUDA_ERROR_MISALIGNED_ADDRESS)."""

    code = 716


class EndlessError(PtxError):
    """A launch that does not end (CUDA_ERROR_LAUNCH_TIMEOUT)."""

    code = 702
