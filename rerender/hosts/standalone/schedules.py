"""Noise schedules by the webui's names: which noise levels the steps of a sampling go through."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rerender.hosts.standalone.ldm_import import load_ldm

# n, sigma_min, sigma_max, the model's discrete schedule (k-diffusion's DiscreteSchedule) -> (n + 1,) with a final 0
Schedule = Callable[[int, float, float, torch.nn.Module], torch.Tensor]


def _uniform(n: int, low: float, high: float, discrete: torch.nn.Module) -> torch.Tensor:
    return discrete.get_sigmas(n)  # type: ignore[operator]


def _karras(n: int, low: float, high: float, discrete: torch.nn.Module) -> torch.Tensor:
    return load_ldm().k_sampling.get_sigmas_karras(n, low, high)


def _exponential(n: int, low: float, high: float, discrete: torch.nn.Module) -> torch.Tensor:
    return load_ldm().k_sampling.get_sigmas_exponential(n, low, high)


def _sgm_uniform(n: int, low: float, high: float, discrete: torch.nn.Module) -> torch.Tensor:
    start, end = (discrete.sigma_to_t(torch.tensor(sigma)) for sigma in (high, low))  # type: ignore[operator]
    times = torch.linspace(float(start), float(end), n + 1)[:-1]
    return torch.cat([discrete.t_to_sigma(times), torch.zeros(1)])  # type: ignore[operator]


def _simple(n: int, low: float, high: float, discrete: torch.nn.Module) -> torch.Tensor:
    sigmas = discrete.sigmas
    assert isinstance(sigmas, torch.Tensor)
    picked = [float(sigmas[-(1 + int(index * len(sigmas) / n))]) for index in range(n)]
    return torch.tensor([*picked, 0.0])


SCHEDULES: dict[str, Schedule] = {
    "Uniform": _uniform,
    "Karras": _karras,
    "Exponential": _exponential,
    "SGM Uniform": _sgm_uniform,
    "Simple": _simple,
}
"""`Automatic` is not here: it stands for the schedule that each sampler prefers."""

ALIASES = {"normal": "Uniform", "plain": "Uniform", "default": "Automatic", "sgmuniform": "SGM Uniform"}
