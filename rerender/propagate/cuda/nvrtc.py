"""NVRTC, NVIDIA's runtime compiler, through ctypes: makes the PTX, and stands in where a driver refuses it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from rerender.propagate.cuda.errors import CudaError

_API: dict[str, list[Any]] = {
    "nvrtcCreateProgram": [POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p],
    "nvrtcCompileProgram": [c_void_p, c_int, POINTER(c_char_p)],
    "nvrtcDestroyProgram": [POINTER(c_void_p)],
    **{f"nvrtcGet{what}Size": [c_void_p, POINTER(c_size_t)] for what in ("PTX", "CUBIN", "ProgramLog")},
    **{f"nvrtcGet{what}": [c_void_p, c_char_p] for what in ("PTX", "CUBIN", "ProgramLog")},
}

# The votes are float sums that must not depend on the compiler; everything else is integers.
_EXACT = "--fmad=false"


def open_beside_torch(cuda_version: str, torch_folder: Path) -> ctypes.CDLL:
    """Open the NVRTC that torch brings along.

    Args:
        cuda_version: torch.version.cuda, such as "12.4".
        torch_folder: folder of the torch package.

    Raises:
        CudaError: there is none.
    """
    for name in _candidates(cuda_version.split(".")[0], torch_folder):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CudaError("torch came without NVRTC")


def compile_kernels(library: Any, source: bytes, architecture: str) -> bytes:
    """Compile the kernels: a cubin for "sm_…", PTX for "compute_…".

    Raises:
        CudaError: with the compiler's messages.
    """
    for name, types in _API.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, c_int
    program = c_void_p()
    _check(library.nvrtcCreateProgram(byref(program), source, b"kernels.cu", 0, None, None), "nvrtcCreateProgram")
    try:
        options = (c_char_p * 2)(f"--gpu-architecture={architecture}".encode(), _EXACT.encode())
        code = library.nvrtcCompileProgram(program, len(options), options)
        if code:
            _check(code, _fetch(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace"))
        return _fetch(library, program, "CUBIN" if architecture.startswith("sm_") else "PTX")
    finally:
        library.nvrtcDestroyProgram(byref(program))


def _candidates(major: str, torch_folder: Path) -> Iterator[str]:
    """Names by which the loader finds a library that is loaded already, then the places where wheels have it."""
    packages = torch_folder.parent / "nvidia"
    if sys.platform == "win32":
        patterns: Sequence[tuple[Path, str]] = [(torch_folder / "lib", f"nvrtc64_{major}*_0.dll")]
    else:
        yield f"libnvrtc.so.{major}" if major != "11" else "libnvrtc.so.11.2"  # 11 kept one number for 11.2 to 11.8
        library = f"libnvrtc.so.{major}*"
        patterns = [(torch_folder / "lib", library), (packages / "cuda_nvrtc" / "lib", library)]
        patterns = [*patterns, (packages / f"cu{major}" / "lib", library)]
    for folder, pattern in patterns:
        yield from (str(path) for path in sorted(folder.glob(pattern)))


def _fetch(library: Any, program: c_void_p, what: str) -> bytes:
    size = c_size_t()
    _check(getattr(library, f"nvrtcGet{what}Size")(program, byref(size)), f"nvrtcGet{what}Size")
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, buffer), f"nvrtcGet{what}")
    return buffer.raw


def _check(code: int, what: str) -> None:
    if code:
        raise CudaError(f"NVRTC: {what} ({code})", code=code)
