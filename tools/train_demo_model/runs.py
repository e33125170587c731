"""What every training stage shares: exponential averages, learning rates, checkpoints that survive a kill."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class Average:
    """Exponential moving average of a module's weights; young averages forget faster."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's weights."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - keep)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100, cooldown: float = 0.3) -> float:
    """Warm-up, a plateau, and a linear descent to 2 % over the last `cooldown` of the steps.

    The plateau lets a run that was planned too short go on: ask for more steps before the descent begins.
    """
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / max(1.0, cooldown * steps))
    return peak * rise * max(0.02, fall)


class Checkpoints:
    """Saves a run's state every few minutes, replacing the old file only when the new one is whole."""

    def __init__(self, path: Path, minutes: float = 3.0) -> None:
        self.path, self.interval = path, minutes * 60
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None at the beginning."""
        if not self.path.is_file():
            return None
        log.info("resuming from %s", self.path)
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > self.interval

    def save(self, state: dict[str, Any]) -> None:
        """Write the state."""
        partial = self.path.with_suffix(".tmp")
        torch.save(state, partial)
        partial.replace(self.path)
        self._saved = time.monotonic()


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1] after rounding to 8 bits."""

    def eight_bits(x: Tensor) -> Tensor:
        return ((x.clamp(-1, 1) + 1) * 127.5).round()

    error = (eight_bits(a) - eight_bits(b)).square().mean()
    return float(10 * torch.log10(255**2 / error))
