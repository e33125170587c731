"""Which model calls a sampler will make: found by rehearsing it on a latent of one value.

A second-order sampler calls the model twice in a step; the second call gets a temporary latent, where an edit would
be lost or wrong. Which call is which follows from the sampler itself: k-diffusion hands its own latent to `callback`
once a step, and the call that got that very tensor is the first of the step. So no table of samplers is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rerender.host import ModelCall

SamplerFunction = Callable[..., torch.Tensor]


class _Recorder(torch.nn.Module):
    """A model that predicts zeros and notes what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, float]] = []
        self.firsts: dict[int, int] = {}

    def forward(self, x: torch.Tensor, level: torch.Tensor, **_: Any) -> torch.Tensor:
        self.seen.append((x, float(level.flatten()[0])))
        return torch.zeros_like(x)

    def callback(self, info: dict[str, Any]) -> None:
        for index in range(len(self.seen) - 1, -1, -1):
            if self.seen[index][0] is info["x"]:
                self.firsts[index] = int(info["i"])
                return


def rehearse(
    sampler: SamplerFunction,
    levels: torch.Tensor,
    *,
    to_sigma: Callable[[float], float] = float,
    **options: Any,
) -> list[ModelCall]:
    """Run `sampler` on a latent of one value and list the model calls it makes.

    Args:
        sampler: `f(model, x, levels, callback=…, disable=…, **options)` as in k-diffusion.
        levels: the schedule given to it: descending sigmas with a final 0, or timesteps.
        to_sigma: turns the model's second argument into sigma (identity for k-diffusion's samplers).
        options: further arguments of the sampler.

    Returns:
        The calls in order. The global random state is left as it was.
    """
    recorder = _Recorder()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        sampler(
            recorder,
            torch.zeros(1, 1, 1, 1),
            levels.cpu(),
            callback=recorder.callback,
            disable=True,
            **options,
        )
    calls: list[ModelCall] = []
    step = -1
    for index, (_, level) in enumerate(recorder.seen):
        step = recorder.firsts.get(index, step)
        calls.append(ModelCall(step=step, first=index in recorder.firsts, sigma=to_sigma(level)))
    return calls
