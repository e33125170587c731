"""Where in a sampling the U-Net is: which model call, and which rows of the denoiser's batch.

A denoiser may run conditional and unconditional rows in one U-Net call or in several of unequal size; their order is
always that of the batch. So rows are counted, never guessed from shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class CallCounter:
    """Number of the running model call, from 0; -1 before the first."""

    def __init__(self) -> None:
        self.index = -1

    def advance(self, *_: Any) -> None:
        """Pre-hook of the denoiser."""
        self.index += 1


@contextmanager
def count_calls(denoiser: torch.nn.Module) -> Iterator[CallCounter]:
    """Count the calls of `denoiser` for the time of a `with` block."""
    counter = CallCounter()
    handle = denoiser.register_forward_pre_hook(counter.advance)
    try:
        yield counter
    finally:
        handle.remove()


class RowCursor(CallCounter):
    """Adds the rows of the running U-Net call.

    Attributes:
        start: first row.
        rows: how many; 0 outside a U-Net call.
        size: (height, width) of the latent that the U-Net got last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start = 0
        self.rows = 0
        self.size = (0, 0)

    def advance(self, *_: Any) -> None:
        """Pre-hook of the denoiser: its batch begins anew."""
        super().advance()
        self.start = self.rows = 0

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the U-Net, whose first argument is the batch."""
        batch = args[0] if args else kwargs["x"]
        self.rows, self.size = int(batch.shape[0]), (int(batch.shape[-2]), int(batch.shape[-1]))

    def leave(self, *_: Any) -> None:
        """Hook of the U-Net."""
        self.start += self.rows
        self.rows = 0


@contextmanager
def follow_rows(denoiser: torch.nn.Module, unet: torch.nn.Module) -> Iterator[RowCursor]:
    """Keep a cursor on the rows for the time of a `with` block."""
    cursor = RowCursor()
    handles = [
        denoiser.register_forward_pre_hook(cursor.advance),
        unet.register_forward_pre_hook(cursor.enter, with_kwargs=True),
        unet.register_forward_hook(cursor.leave),
    ]
    try:
        yield cursor
    finally:
        for handle in handles:
            handle.remove()
