"""Build rerender/propagate/cuda/kernels.ptx from kernels.cu, without a GPU, a driver or a CUDA toolkit.

    pip install nvidia-cuda-nvrtc-cu11==11.8.89
    python -m tools.build_ptx

Newer compilers write a PTX that older drivers refuse. What 11.8 writes for these kernels is plain enough for PTX 6.4,
which every driver that torch 2.1 or newer can use knows; so the version that the text names is lowered.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import re
import sys
from pathlib import Path

from rerender.propagate.cuda.device import PTX, SOURCE
from rerender.propagate.cuda.nvrtc import compile_kernels

NVRTC_VERSION = "11.8"
_HEADER = (
    "// Made from kernels.cu by tools/build_ptx.py with NVRTC {version}; do not edit.\n// Source: sha256 {digest}\n"
)


def source_digest() -> str:
    """SHA-256 of kernels.cu, whatever line ends the checkout gave it."""
    return hashlib.sha256(_source()).hexdigest()


def build_ptx() -> str:
    """Return the text of kernels.ptx.

    Raises:
        ImportError: NVRTC 11.8 is not installed.
        CudaError: the source does not compile.
    """
    text = compile_kernels(open_nvrtc(), _source(), "compute_50").rstrip(b"\0").decode()
    body = text[text.index(".version") :]
    body, count = re.subn(r"^\.version [\d.]+$", ".version 6.4", body, count=1, flags=re.MULTILINE)
    if count != 1 or ".target sm_50" not in body:
        raise ValueError("NVRTC wrote something other than PTX for sm_50.")
    return _HEADER.format(version=NVRTC_VERSION, digest=source_digest()) + body


def main() -> None:
    """Write the file."""
    PTX.write_text(build_ptx(), encoding="ascii", newline="\n")
    print(f"{PTX}: {PTX.stat().st_size} bytes")


def _source() -> bytes:
    return SOURCE.read_bytes().replace(b"\r\n", b"\n")


def open_nvrtc() -> ctypes.CDLL:
    """Open the NVRTC of the wheel; ImportError where it is not installed."""
    try:
        package = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:  # there is no package "nvidia" at all
        package = None
    name = "bin/nvrtc64_112_0.dll" if sys.platform == "win32" else "lib/libnvrtc.so.11.2"
    for folder in (package.submodule_search_locations if package else None) or []:
        if (Path(folder) / name).exists():
            return ctypes.CDLL(str(Path(folder) / name))
    raise ImportError(f"NVRTC {NVRTC_VERSION} is not installed: pip install nvidia-cuda-nvrtc-cu11==11.8.89")


if __name__ == "__main__":
    main()
