"""A look into the webui's sampling: which model calls it will make, and a place for the method's hooks.

The sampler function is wrapped for one rendering. By the time the webui calls it, the latent is noised and every
argument of the sampler is known, whatever options decided them; so the rehearsal gets exactly those arguments.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import k_diffusion.sampling
import numpy as np
import torch
from modules import sd_samplers_common, shared

from rerender.diffusion.plan import rehearse
from rerender.errors import Interrupted, UserError
from rerender.host import Attach, ModelCall, OnStep, Sampling

# Arguments that belong to the real run, not to its rehearsal.
_OF_THE_RUN = ("extra_args", "callback", "disable")


class Record:
    """What one rendering left: its latent (B, 4, h, w) and whether sampling ended as planned."""

    def __init__(self) -> None:
        self.latent: torch.Tensor | None = None


@contextmanager
def hooked_sampling(
    p: Any,
    attach: Attach | None = None,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
    initial_latent: torch.Tensor | None = None,
) -> Iterator[Record]:
    """Let `process_images(p)` sample with hooks, for the time of a `with` block.

    Args:
        p: a processing object; its `sample` is wrapped and put back.
        attach, on_step, cancelled: see `rerender.host.Host.render`.
        initial_latent: replaces the encoded init picture, (1, 4, h, w).
    """
    record, original = Record(), p.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        if initial_latent is not None:
            p.init_latent = initial_latent.to(p.init_latent)
        with _wrapped_function(p, attach, on_step, cancelled):
            record.latent = original(*args, **kwargs)
        return record.latent

    own = p.__dict__.get("sample")
    p.sample = sample
    try:
        yield record
    finally:
        if own is None:
            del p.sample
        else:
            p.sample = own


@contextmanager
def _wrapped_function(
    p: Any, attach: Attach | None, on_step: OnStep | None, cancelled: Callable[[], bool] | None
) -> Iterator[None]:
    sampler = p.sampler
    function = sampler.func

    @functools.wraps(function)  # the webui reads the signature to see which arguments to give
    def run(model: torch.nn.Module, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        try:
            sampling = describe(sampler, function, model, x, args, kwargs)
            sampling = replace(sampling, init_latent=getattr(p, "init_latent", None))
            with _watched(sampling, on_step, cancelled), attach(sampling) if attach is not None else nullcontext():
                return function(model, x, *args, **kwargs)
        except sd_samplers_common.InterruptedException as stop:
            # The webui would decode and return what is there; a half-done picture is none.
            raise Interrupted from stop

    sampler.func = run
    try:
        yield
    finally:
        sampler.func = function


@contextmanager
def _watched(sampling: Sampling, on_step: OnStep | None, cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """Report steps and ask for cancellation, before any other hook of the denoiser."""
    calls = iter(sampling.calls)

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if cancelled is not None and cancelled():
            raise Interrupted
        call = next(calls, None)
        if on_step is not None and call is not None and call.first and call.step > 0:
            on_step(call.step, sampling.steps)

    handle = sampling.denoiser.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
    if on_step is not None and sampling.steps:
        on_step(sampling.steps, sampling.steps)


def describe(
    sampler: Any,
    function: Callable[..., torch.Tensor],
    model: torch.nn.Module,
    x: torch.Tensor,
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Sampling:
    """What the method may know of a sampling that is about to start.

    Args:
        sampler: the webui's sampler object.
        function: its sampler function, about to be called as `function(model, x, *args, **kwargs)`.

    Raises:
        UserError: a sampler without a fixed number of steps, or too few steps for it.
    """
    name = sampler.config.name
    if "rtol" in inspect.signature(function).parameters:
        raise UserError(
            f"The sampler {name!r} has no fixed number of steps, so key frames cannot be kept in line with each other.",
            hint="Choose another sampler.",
        )
    form: Literal["sigma", "timestep"] = "timestep" if hasattr(model, "alphas") else "sigma"
    alphas_cumprod = shared.sd_model.alphas_cumprod.detach().float()
    rehearsal = _Rehearsal(function, args, kwargs, alphas_cumprod.cpu(), follows_callback=form == "timestep")
    try:
        calls = rehearsal.calls()
    except AssertionError as error:
        raise UserError(f"The sampler {name!r} cannot run like this: {error}.", hint="Use more steps.") from error
    return Sampling(
        denoiser=model,
        form=form,
        alphas_cumprod=alphas_cumprod,
        calls=calls,
        unet=shared.sd_model.model.diffusion_model,
        multistep=rehearsal.keeps_history(calls),
        rows=1 + len(kwargs["extra_args"]["cond"].batch[0]),
    )


class _Rehearsal:
    """The sampler function, made to run on a latent of one value on the CPU.

    Args:
        alphas_cumprod: (1000,) on the CPU.
        follows_callback: the function hands its *next* latent to `callback` (the webui's DDIM, PLMS and UniPC),
            not the one that the model was just called with (k-diffusion).
    """

    def __init__(
        self,
        function: Callable[..., torch.Tensor],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        alphas_cumprod: torch.Tensor,
        *,
        follows_callback: bool,
    ) -> None:
        self._function, self._follows_callback = function, follows_callback
        self._args = [_on_cpu(value) for value in args]
        self._kwargs = {name: _on_cpu(value) for name, value in kwargs.items() if name not in _OF_THE_RUN}
        if "noise_sampler" in inspect.signature(function).parameters:
            self._kwargs["noise_sampler"] = lambda sigma, sigma_next: torch.zeros(1, 1, 1, 1)
        self._alphas_cumprod = alphas_cumprod
        self._sigmas = ((1 - alphas_cumprod.double()) / alphas_cumprod.double()).sqrt().numpy()

    def calls(self) -> list[ModelCall]:
        """The model calls that the sampler will make, in order."""
        to_sigma = self._sigma_of_timestep if self._follows_callback else float
        with _own_noise():
            calls = rehearse(self._run, torch.zeros(1), to_sigma=to_sigma)
        if sum(call.first for call in calls) > 1 or len(calls) == 1:
            return calls
        # A predictor–corrector (UniPC) shows none of its latents to the callback: each call is a step of its own.
        return [ModelCall(step=step, first=True, sigma=call.sigma) for step, call in enumerate(calls)]

    def keeps_history(self, calls: Sequence[ModelCall]) -> bool:
        """Whether results of the model that were returned in earlier steps still matter: tried by changing them."""
        with _own_noise(), torch.no_grad():
            return not torch.equal(self._play(calls, disturb=False), self._play(calls, disturb=True))

    def _play(self, calls: Sequence[ModelCall], *, disturb: bool) -> torch.Tensor:
        returned: list[torch.Tensor] = []

        def model(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            if disturb and calls[len(returned)].first:
                for result in returned:
                    if result.data_ptr() != x.data_ptr():  # LCM goes on with the very tensor that was returned
                        result += 1.0
            returned.append(0.5 * x)
            return returned[-1]

        return self._run(_Shim(model), torch.ones(1, 1, 1, 1), callback=lambda info: None)

    def _run(
        self,
        model: Callable[..., torch.Tensor],
        x: torch.Tensor,
        levels: Any = None,
        *,
        callback: Callable[[dict[str, Any]], None],
        disable: bool = True,
    ) -> torch.Tensor:
        own, step = x, 0

        def call(latent: torch.Tensor, level: torch.Tensor, **_: Any) -> torch.Tensor:
            result = model(latent, level)
            if self._follows_callback and latent is own:
                callback({"x": latent, "i": step})
            return result

        def note(info: dict[str, Any]) -> None:
            nonlocal own, step
            if self._follows_callback:
                own, step = info["x"], step + 1
            else:
                callback(info)

        shim = _Shim(call, self._alphas_cumprod)
        return self._function(shim, x, *self._args, extra_args={}, callback=note, disable=disable, **self._kwargs)

    def _sigma_of_timestep(self, timestep: float) -> float:
        # Log sigma is close to linear between two timesteps; UniPC's timesteps are fractions.
        return float(np.exp(np.interp(timestep, np.arange(len(self._sigmas)), np.log(self._sigmas))))


class _Shim:
    """A model with the attributes that the webui's own samplers reach for."""

    last_noise_uncond = torch.zeros(1, 1, 1, 1)

    def __init__(self, call: Callable[..., torch.Tensor], alphas_cumprod: torch.Tensor | None = None) -> None:
        self._call = call
        self.inner_model = SimpleNamespace(inner_model=SimpleNamespace(alphas_cumprod=alphas_cumprod))

    def __call__(self, x: torch.Tensor, level: torch.Tensor, **extra: Any) -> torch.Tensor:
        return self._call(x, level, **extra)


@contextmanager
def _own_noise() -> Iterator[None]:
    """Keep samplers from drawing out of the picture's noise source, which the webui plants into k-diffusion."""
    planted = k_diffusion.sampling.torch
    k_diffusion.sampling.torch = torch
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        k_diffusion.sampling.torch = planted


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
