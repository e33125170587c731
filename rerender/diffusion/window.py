"""Periods: in which of the steps that run a constraint is active."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rerender.host import Sampling

Unit = Literal["steps", "noise"]

_EPSILON = 1e-9


@dataclass(frozen=True)
class Window:
    """The period [start, end) as fractions of the steps that run, or of the noise that is taken away.

    Steps that img2img skips do not count, so a period means the same at any denoising strength. A window with
    start < end always holds at least one step.

    Attributes:
        unit: "steps": step s of S stands at s / S. "noise": it stands at the share of training timesteps already
            passed, which keeps its meaning for few-step models and for any schedule.
    """

    start: float
    end: float
    unit: Unit = "steps"

    def steps(self, sampling: Sampling) -> frozenset[int]:
        """The steps that the window holds, from 0."""
        if self.unit == "steps":
            return self.among([step / sampling.steps for step in range(sampling.steps)])
        return self.among(noise_positions(sampling))

    def among(self, positions: Sequence[float]) -> frozenset[int]:
        """Which of ascending `positions` in [0, 1) lie in the window; the one that holds `start` if none does."""
        if not positions or self.start >= self.end:
            return frozenset()
        inside = frozenset(
            step for step, position in enumerate(positions) if self.start - _EPSILON <= position < self.end - _EPSILON
        )
        return inside or frozenset({max(s for s, p in enumerate(positions) if p <= self.start + _EPSILON or s == 0)})


def noise_positions(sampling: Sampling) -> list[float]:
    """For each step the share of the run's training timesteps that lie behind it, in [0, 1), ascending."""
    timesteps = [timestep_of_sigma(call.sigma, sampling.alphas_cumprod) for call in sampling.calls if call.first]
    return [1.0 - (timestep + 1.0) / (timesteps[0] + 1.0) for timestep in timesteps]


def timestep_of_sigma(sigma: float, alphas_cumprod: torch.Tensor) -> float:
    """The (fractional) training timestep whose noise level is sigma, by linear interpolation in log sigma."""
    alphas = alphas_cumprod.detach().cpu().double().numpy()
    log_sigmas = 0.5 * (np.log1p(-alphas) - np.log(alphas))
    return float(np.interp(math.log(max(sigma, 1e-12)), log_sigmas, np.arange(len(alphas))))
