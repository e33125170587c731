"""Fast-forward: a second sampling that shares its first steps with an earlier one, without running the U-Net.

Two samplings with equal requests and hooks ask the U-Net the same questions until their hooks first differ. The
answers of the first run are kept and given again; everything around the U-Net (guidance, sampler, edits, the host's own
counters) runs as always, so nothing has to know about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rerender.diffusion.rows import count_calls
from rerender.errors import RerenderError
from rerender.host import Sampling


class UNetTape:
    """The U-Net's answers in the model calls before `until`."""

    def __init__(self) -> None:
        self.answers: list[torch.Tensor] = []
        self.until = 0


@contextmanager
def record_unet(sampling: Sampling, tape: UNetTape, until: int) -> Iterator[None]:
    """Keep the U-Net's answers during the model calls before number `until`."""
    tape.answers.clear()
    tape.until = until
    with count_calls(sampling.denoiser) as calls:

        def keep(module: torch.nn.Module, args: Any, output: torch.Tensor) -> None:
            if calls.index < until:
                tape.answers.append(output.detach().clone())

        handle = sampling.unet.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def replay_unet(sampling: Sampling, tape: UNetTape) -> Iterator[None]:
    """Give the kept answers again; the U-Net runs from model call `tape.until` on.

    Raises:
        RerenderError: the sampling asked for more or fewer answers than were kept.
    """
    unet, answers = sampling.unet, iter(tape.answers)
    with count_calls(sampling.denoiser) as calls:

        def answer(original: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
            if calls.index >= tape.until:
                return original(*args, **kwargs)
            try:
                return next(answers)
            except StopIteration:
                raise RerenderError("The two passes of a key frame do not make the same model calls.") from None

        with replaced_forward(unet, answer):
            yield
    if next(answers, None) is not None:
        raise RerenderError("The two passes of a key frame do not make the same model calls.")


@contextmanager
def replaced_forward(module: torch.nn.Module, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Let `forward(original, *args, **kwargs)` stand in for module.forward; restored exactly."""
    own = "forward" in vars(module)
    original = module.forward
    module.forward = lambda *args, **kwargs: forward(original, *args, **kwargs)
    try:
        yield
    finally:
        if own:
            module.forward = original
        else:
            del module.forward
