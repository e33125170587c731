"""Half precision of the standalone host."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """torch's autocast to half precision, if `dtype` of the weights is that.

    Not entered at all otherwise: torch 2.1, which webuis run on, refuses float16 on the CPU even where it is disabled.
    """
    return torch.autocast(device.type, dtype=torch.float16) if dtype == torch.float16 else nullcontext()
