"""Live previews: what a key frame looks like so far, after each step, for next to nothing.

A latent holds the colours of 8×8 blocks nearly linearly. The map from four channels to RGB differs from model to model,
so it is not taken from a table: at the start of a rendering the init picture and its latent are both there, and least
squares over their cells give it. No decoding, no network, any checkpoint and host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from rerender.host import Attach, Host, OnStep, Rendered, RenderRequest, Sampling

Show = Callable[[np.ndarray], None]
RIDGE = 1e-3
"""Keeps the fit sane on a picture of one colour; relative to the number of cells."""


class LinearDecoder:
    """A linear map from latents to small pictures, fitted to one pair.

    Args:
        latent: (1, 4, h, w), of `picture`.
        picture: uint8 RGB (8h, 8w, 3).
    """

    def __init__(self, latent: torch.Tensor, picture: np.ndarray) -> None:
        height, width = latent.shape[-2:]
        colours = torch.from_numpy(np.ascontiguousarray(picture)).to(latent.device)
        cells = torch.nn.functional.adaptive_avg_pool2d(colours.permute(2, 0, 1)[None].float(), (height, width))
        basis = _with_one(latent)
        target = cells[0].flatten(1).T - 127.5  # towards grey, not black, where the picture says nothing
        normal = (basis.T @ basis).cpu() + RIDGE * len(basis) * torch.eye(basis.shape[1])
        # Five by five: solved on the CPU, since not every device can.
        self.weights = torch.linalg.solve(normal, (basis.T @ target).cpu()).to(latent.device)

    def __call__(self, latent: torch.Tensor) -> np.ndarray:
        """latent: (1, 4, h, w) → uint8 RGB (h, w, 3)."""
        height, width = latent.shape[-2:]
        values = _with_one(latent) @ self.weights + 127.5
        return values.clamp(0, 255).round().byte().view(height, width, 3).cpu().numpy()


def _with_one(latent: torch.Tensor) -> torch.Tensor:
    """(1, 4, h, w) → (h·w, 5): the cells' channels and a constant."""
    cells = latent[0].detach().float().flatten(1).T
    return torch.cat([cells, torch.ones_like(cells[:, :1])], dim=1)


class PreviewingHost:
    """A host that shows each step of its renderings, and is otherwise the host it was given.

    Args:
        show: gets the estimate of the finished picture, uint8 RGB (h, w, 3), an eighth of its size.
        wanted: asked at each step; nothing is made where it says no.
    """

    def __init__(self, host: Host, show: Show, wanted: Callable[[], bool] = lambda: True) -> None:
        self._host, self._show, self._wanted = host, show, wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def render(
        self,
        request: RenderRequest,
        *,
        attach: Attach | None = None,
        on_step: OnStep | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Rendered:
        """See `rerender.host.Host.render`."""

        @contextmanager
        def attach_both(sampling: Sampling) -> Iterator[None]:
            # Behind the method's own hooks, so that what is shown is what they left.
            with attach(sampling) if attach is not None else nullcontext():
                with _shown(sampling, request.picture, self._show, self._wanted):
                    yield

        return self._host.render(request, attach=attach_both, on_step=on_step, cancelled=cancelled)


@contextmanager
def _shown(sampling: Sampling, picture: np.ndarray, show: Show, wanted: Callable[[], bool]) -> Iterator[None]:
    latent = sampling.init_latent
    if latent is None or not sampling.calls:
        yield
        return
    calls = iter(sampling.calls)
    decoder: LinearDecoder | None = None

    def after(module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal decoder
        call = next(calls, None)
        if call is None or not call.first or not wanted():
            return
        decoder = decoder or LinearDecoder(latent, picture)
        show(decoder(_estimate(sampling, call.sigma, args[0], output)))

    handle = sampling.denoiser.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _estimate(sampling: Sampling, sigma: float, latent: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """x̂0 out of what the denoiser returned, (1, 4, h, w) float32."""
    if sampling.form == "sigma":
        return output[:1].float()
    scale = (1.0 + sigma**2) ** -0.5
    return latent[:1].float() / scale - sigma * output[:1].float()
