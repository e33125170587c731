"""Half precision on the CPU as a GPU has it: CUDA's autocast takes norms in float32, the CPU's as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def widened(norm: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The norm in float32 wherever autocast is on."""

    def call(*values: Any, **named: Any) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            values = tuple(map(_wide, values))
            named = {name: _wide(value) for name, value in named.items()}
        return norm(*values, **named)

    return call


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value
