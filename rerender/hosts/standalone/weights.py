"""Read checkpoint files: safetensors, and pickled ones through safe unpickling only."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

from rerender.errors import UserError

_PICKLED = {".ckpt", ".pt", ".pth", ".bin"}
_TRAINER_CALLBACKS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.ModelCheckpoint",
)
_BLOCK = 1 << 20


class Weights(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint file by name, read one at a time when they are asked for.

    Shapes are known without reading a tensor, which is what recognising an architecture needs.
    """

    def __init__(self, path: Path, shapes: dict[str, tuple[int, ...]], tensors: Mapping[str, torch.Tensor]) -> None:
        self.path = path
        self.shapes = shapes
        self._tensors = tensors

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __contains__(self, key: object) -> bool:
        return key in self.shapes


class _SafetensorsFile(Mapping[str, torch.Tensor]):
    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        # Read-only memory mapping: pages are fetched as tensors are taken out.
        self._file = safe_open(path, framework="pt", device="cpu")
        self._keys = list(self._file.keys())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(self._file.get_slice(key).get_shape()) for key in self._keys}

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._file.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def read_weights(path: Path) -> Weights:
    """Open a checkpoint, VAE or LoRA file.

    Args:
        path: a .safetensors file, or a .ckpt/.pt/.pth/.bin file holding tensors only, flat or under "state_dict".

    Raises:
        UserError: no such file, a truncated or corrupt file, or a pickle that holds anything but tensors.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"The file {path} {what}.", hint="Name a .safetensors or .ckpt file.")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.suffix.lower() in _PICKLED:
        return _read_pickled(path)
    raise UserError(
        f"{path}: cannot tell the format from the ending {path.suffix!r}.",
        hint="Known endings: .safetensors, .ckpt, .pt, .pth, .bin.",
    )


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError

    try:
        file = _SafetensorsFile(path)
        return Weights(path, file.shapes(), file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is truncated or not a safetensors file ({error}).",
            hint="Download or copy the file again and compare its size with the source's.",
        ) from error


class _TrainerCallback:
    """Takes the place of a training callback that the first SD checkpoints hold beside their tensors."""


def _without_callbacks() -> AbstractContextManager[None]:
    """Let training callbacks be read as nothing. Before torch 2.5 a checkpoint that holds some is refused."""
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    return torch.serialization.safe_globals([(_TrainerCallback, name) for name in _TRAINER_CALLBACKS])


def _read_pickled(path: Path) -> Weights:
    try:
        with _without_callbacks():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, or is no checkpoint; it was not opened, because unpickling it could run "
            "code.",
            hint="Use the .safetensors version of this model, or convert it where you trust its source.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is truncated or not a PyTorch checkpoint ({error}).") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    return Weights(path, {key: tuple(value.shape) for key, value in tensors.items()}, tensors)


def short_hash(path: Path) -> str:
    """First ten hex digits of the file's SHA-256, as the webui shows them; cached while the file is unchanged."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_mtime_ns, status.st_size)[:10]


@cache
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
