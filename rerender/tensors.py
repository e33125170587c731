"""Files of tensors in the safetensors layout, written and read one tensor at a time.

The writer of safetensors 0.4, which a webui has, builds the bytes of all tensors before it writes the first: for the
features of reference frames that is up to gigabytes of main memory more, and any version wants them on the CPU all at
once. The file is the same, and any reader of safetensors opens it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import safe_open

from rerender.files import replacing

_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> int:
    """Write a safetensors file atomically; gives its size in bytes.

    Args:
        tensors: by name, on any device; each is brought to main memory when its turn comes.

    Raises:
        UserError: the folder cannot be written to, or the device is full.
        ValueError: a type of number that has no name in the format's list here.
    """
    # Wide numbers first keeps each tensor aligned to its numbers, as the format's own writer does.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header = _header(order, tensors, metadata)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            whole = tensors[name].detach().cpu().contiguous()
            file.write(whole.reshape(-1).view(torch.uint8).numpy().data)
        return file.tell()


def _header(order: list[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: {tensor.dtype} cannot be stored")
        stop = start + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


class TensorFile(Mapping[str, torch.Tensor]):
    """A safetensors file whose tensors are read when they are asked for. Use it as a context manager.

    Raises:
        SafetensorError, OSError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._names = frozenset(self._file.keys())

    @property
    def metadata(self) -> dict[str, str]:
        """The texts stored beside the tensors."""
        return dict(self._file.metadata() or {})

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __enter__(self) -> TensorFile:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)
