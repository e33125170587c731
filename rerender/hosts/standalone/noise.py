"""Random numbers of one rendering: all from generators of its own, so the global random state is never touched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from rerender.hosts.standalone.ldm_import import load_ldm

NoiseSampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class NoiseSource:
    """The draws of one seed, in the webui's order: first the initial noise, then one draw for each that is asked for.

    Args:
        seed: of the picture.
        shape: of its latent, (1, 4, h, w).
        device: where the noise is wanted.
        generated_on: where it is drawn: the CPU (the same on every machine; the webui's "CPU" source) or `device`
            (the webui's default, "GPU").
    """

    def __init__(self, seed: int, shape: torch.Size, device: torch.device, generated_on: torch.device) -> None:
        self._seed = seed
        self._shape = shape
        self._device = device
        self._source = generated_on
        self._generator = torch.Generator(generated_on).manual_seed(seed)

    def draw(self) -> torch.Tensor:
        """The next independent normal noise, (1, 4, h, w) float32."""
        return torch.randn(self._shape, generator=self._generator, device=self._source).to(self._device)

    def ancestral(self) -> NoiseSampler:
        """Independent draws, in the form that k-diffusion's ancestral samplers take."""
        return lambda sigma, sigma_next: self.draw()

    def brownian(self, sigmas: torch.Tensor) -> NoiseSampler:
        """A Brownian path over the noise levels of a whole schedule, for the SDE samplers."""
        low, high = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        if low == high:
            low = high / 2  # a single level: the path needs some length, though no step asks for it
        start = torch.zeros(self._shape, device=self._source)
        path = load_ldm().k_sampling.BrownianTreeNoiseSampler(start, low, high, seed=[self._seed])

        def sample(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
            with warnings.catch_warnings():
                # torchsde compares the path's ends, which it rounded, with our levels, which it did not.
                warnings.filterwarnings("ignore", message="Should have t[ab]")
                return path(sigma.to(self._source), sigma_next.to(self._source)).to(self._device)

        return sample


@contextmanager
def untouched_random_state(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators on leaving: k-diffusion's Euler and Heun draw from them without use."""
    if device.type == "mps":
        state = torch.mps.get_rng_state()
        with torch.random.fork_rng(devices=[]):
            try:
                yield
            finally:
                torch.mps.set_rng_state(state)
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
