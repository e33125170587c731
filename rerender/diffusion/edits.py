"""The sampler hook: edits of the estimate x̂0 and of the latent, for any sampler, between its model calls.

An edit of x̂0 by Δ must leave the noise estimate e = (y - x̂0) / sigma as it is, so the sampler's own latent moves by
the same Δ (paper, section 4.2; in the form x = sqrt(a)·y by sqrt(a)·Δ). A multistep sampler keeps earlier estimates as
its history, the very tensors that the denoiser returned: they move along, or the next step would be another update
than the same step of a first-order sampler.

Edits belong to the first call of a step. Further calls of a second-order sampler get a temporary latent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from rerender.errors import RerenderError
from rerender.host import ModelCall, Sampling


class Mixed(NamedTuple):
    """A new latent in sigma form, and the change of the last estimate that it stands for; (B, 4, h, w) each."""

    y: torch.Tensor
    shift: torch.Tensor


class Constraint:
    """Something that edits a sampling. All latents are float32 in sigma form, y = x0 + sigma·n, (B, 4, h, w).

    `index` numbers the model calls of the sampling; `before` and `after` are asked at the first call of each step.
    """

    def begin(self, sampling: Sampling) -> None:
        """Called before the first model call."""

    def before(self, index: int, call: ModelCall, y: torch.Tensor, x0: torch.Tensor, e: torch.Tensor) -> Mixed | None:
        """Replace the latent before the model sees it. x0, e: estimates of picture and noise by the last call."""
        return None

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> torch.Tensor | None:
        """Replace the estimate x̂0 after the model made it."""
        return None


@contextmanager
def edits(sampling: Sampling, constraints: Sequence[Constraint]) -> Iterator[None]:
    """Let `constraints` edit a sampling, in their order, for the time of a `with` block.

    Raises:
        RerenderError: the sampler made other model calls than the sampling announced.
    """
    hooks = _EditHooks(sampling, constraints)
    handles = [
        sampling.denoiser.register_forward_pre_hook(hooks.before),
        sampling.denoiser.register_forward_hook(hooks.after),
    ]
    try:
        for constraint in constraints:
            constraint.begin(sampling)
        yield
    finally:
        for handle in handles:
            handle.remove()
    hooks.check_complete()


class _EditHooks:
    """One sampling's calls, counted, with what has to be remembered between them."""

    def __init__(self, sampling: Sampling, constraints: Sequence[Constraint]) -> None:
        self.sampling, self.constraints = sampling, constraints
        self.index = -1
        self.last_x0: torch.Tensor | None = None
        # Two is what the samplers with the longest memory of estimates (DPM++ 3M SDE) look back.
        self.history: deque[torch.Tensor] = deque(maxlen=2)

    @property
    def call(self) -> ModelCall:
        return self.sampling.calls[self.index]

    @property
    def scale(self) -> float:
        """The sampler's latent is scale·y."""
        return 1.0 if self.sampling.form == "sigma" else (1.0 + self.call.sigma**2) ** -0.5

    def before(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self.index += 1
        if self.index >= len(self.sampling.calls):
            raise RerenderError(
                f"The sampler called the model more often than the {len(self.sampling.calls)} times that were expected."
            )
        if not self.call.first or self.last_x0 is None:
            return
        latent = args[0]
        for constraint in self.constraints:
            y = latent.float() / self.scale
            mixed = constraint.before(self.index, self.call, y, self.last_x0, (y - self.last_x0) / self.call.sigma)
            if mixed is not None:
                latent.copy_(mixed.y * self.scale)
                self.last_x0 = self.last_x0 + mixed.shift
                self.shift_history(mixed.shift)

    def after(self, module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        latent = args[0]
        estimate = output.float() if self.sampling.form == "sigma" else self.x0_of_eps(latent, output)
        edited = self.edit(estimate) if self.call.first else estimate
        self.last_x0 = edited.clone()
        if edited is estimate:
            self.remember(output)
            return None
        delta = edited - estimate
        latent.add_((delta * self.scale).to(latent.dtype))
        self.shift_history(delta)
        # In timestep form the noise estimate is what is returned, and it stays.
        returned = edited.to(output.dtype) if self.sampling.form == "sigma" else output
        self.remember(returned)
        return returned

    def x0_of_eps(self, latent: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        return latent.float() / self.scale - self.call.sigma * eps.float()

    def edit(self, x0: torch.Tensor) -> torch.Tensor:
        for constraint in self.constraints:
            changed = constraint.after(self.index, self.call, x0)
            x0 = x0 if changed is None else changed
        return x0

    def remember(self, returned: torch.Tensor) -> None:
        if self.sampling.multistep and self.sampling.form == "sigma":
            self.history.append(returned)

    def shift_history(self, delta: torch.Tensor) -> None:
        for returned in self.history:
            returned.add_(delta.to(returned.dtype))

    def check_complete(self) -> None:
        made, expected = self.index + 1, len(self.sampling.calls)
        if made != expected:
            raise RerenderError(f"The sampler called the model {made} times; {expected} were expected.")


class Estimates(Constraint):
    """Keeps the estimate x̂0 of each step, as the constraints before it in the list left it.

    Attributes:
        x0: by number of the model call, (B, 4, h, w) float32.
    """

    def __init__(self) -> None:
        self.x0: dict[int, torch.Tensor] = {}

    def after(self, index: int, call: ModelCall, x0: torch.Tensor) -> None:
        """Store a copy: the sampler's own tensor may still be moved. Contiguous, as it will be after a restart."""
        self.x0[index] = x0.detach().clone(memory_format=torch.contiguous_format)
