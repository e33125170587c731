"""Pictures whose sides are multiples of 8, on a U-Net made for multiples of 64.

Halving an odd side rounds up, so doubling it on the way back comes out one larger than the skip connection it is
joined with. The webui resizes the deeper tensor to the skip connection's size; so do we, for equal pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch


class _TorchForSkips:
    """`torch`, but `cat` fits the first of two tensors to the size of the second."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def cat(self, tensors: Sequence[torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """torch.cat of (h, skip), with h resized to the skip connection's (H, W) where they differ."""
        if len(tensors) == 2 and tensors[0].ndim == 4 and tensors[0].shape[-2:] != tensors[1].shape[-2:]:
            deeper, skip = tensors
            tensors = [torch.nn.functional.interpolate(deeper, skip.shape[-2:], mode="nearest"), skip]
        return torch.cat(list(tensors), *args, **kwargs)


@contextmanager
def fitting_skips(openaimodel: ModuleType) -> Iterator[None]:
    """Let the U-Net of `ldm.modules.diffusionmodules.openaimodel` run at any size while this is open."""
    original = openaimodel.th
    openaimodel.th = _TorchForSkips()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        openaimodel.th = original  # type: ignore[attr-defined]
