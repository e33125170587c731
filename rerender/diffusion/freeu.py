"""FreeU: a stronger backbone and weaker low frequencies of the skip connections, without any training.

Si, Huang, Jiang, Liu, "FreeU: Free Lunch in Diffusion U-Net", CVPR 2024, equations 3 to 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rerender.host import Sampling


@dataclass(frozen=True)
class FreeU:
    """Factors of the innermost (1) and the next (2) of the decoder's stages; 1 changes nothing.

    Attributes:
        b1, b2: of the first half of the backbone's channels.
        s1, s2: of the lowest frequencies of the skip connections.
    """

    b1: float = 1.5
    b2: float = 1.6
    s1: float = 0.9
    s2: float = 0.2


def scale_backbone(h: torch.Tensor, b: float) -> torch.Tensor:
    """Scale the first half of the channels by up to b, most where the mean over channels is highest; (B, C, H, W)."""
    mean = h.mean(1, keepdim=True)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    factor = (b - 1) * (mean - low) / (high - low).clamp_min(1e-6) + 1
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * factor, h[:, half:]], 1)


def scale_low_frequencies(skip: torch.Tensor, s: float, radius: int = 1) -> torch.Tensor:
    """Scale the frequencies below `radius` periods a picture by s; (B, C, H, W)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(skip.float()), dim=(2, 3))
    y, x = skip.shape[2] // 2, skip.shape[3] // 2
    spectrum[..., max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius] *= s
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(2, 3))).real.to(skip.dtype)


@contextmanager
def free_u(sampling: Sampling, factors: FreeU) -> Iterator[None]:
    """Apply FreeU to a sampling's U-Net for the time of a `with` block; leaves no trace."""
    unet: Any = sampling.unet
    stages = {4 * unet.model_channels: (factors.b1, factors.s1), 2 * unet.model_channels: (factors.b2, factors.s2)}
    hooks = _Hooks(stages)
    blocks = list(unet.output_blocks)
    handles = [block.register_forward_pre_hook(hooks.scale) for block in blocks]
    handles += [block.register_forward_hook(hooks.note_width) for block in (unet.middle_block, *blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hooks:
    def __init__(self, stages: dict[int, tuple[float, float]]) -> None:
        self.stages = stages
        self.backbone = 0

    def note_width(self, module: torch.nn.Module, args: Any, output: torch.Tensor) -> None:
        """What a block gives is the backbone of the next one's input."""
        self.backbone = output.shape[1]

    def scale(self, module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A decoder block's first argument is backbone and skip connection, side by side."""
        if self.backbone not in self.stages:
            return None
        b, s = self.stages[self.backbone]
        h, skip = args[0].split([self.backbone, args[0].shape[1] - self.backbone], 1)
        return torch.cat([scale_backbone(h, b), scale_low_frequencies(skip, s)], 1), *args[1:]
