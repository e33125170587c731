"""The samplers by the webui's names, and what the webui does around each of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rerender.errors import UserError
from rerender.hosts.standalone.ddim import sample_ddim
from rerender.hosts.standalone.lcm import sample_lcm
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.schedules import ALIASES as SCHEDULE_ALIASES
from rerender.hosts.standalone.schedules import SCHEDULES

Noise = Literal["none", "ancestral", "brownian"]


@dataclass(frozen=True)
class Sampler:
    """One sampler.

    Attributes:
        name: the webui's name; function: its name in k-diffusion, or "ddim", "lcm".
        schedule: the one that "Automatic" stands for.
        noise: what it adds on its way: nothing, independent draws, or a Brownian path.
        multistep: whether it keeps earlier results of the model.
        discard_penultimate: whether the last level above zero is left out of the schedule.
    """

    name: str
    function: str
    aliases: tuple[str, ...] = ()
    schedule: str = "Uniform"
    noise: Noise = "none"
    multistep: bool = False
    discard_penultimate: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def form(self) -> Literal["sigma", "timestep"]:
        """The form of the latent that the sampler works on; see `rerender.host.Sampling`."""
        return "timestep" if self.function == "ddim" else "sigma"

    @property
    def is_consistency(self) -> bool:
        """Whether it takes the network for a latent consistency model."""
        return self.function == "lcm"

    def resolve(self) -> Callable[..., torch.Tensor]:
        """The function itself."""
        if self.function in _OWN:
            return _OWN[self.function]
        function = getattr(load_ldm().k_sampling, f"sample_{self.function}")
        return _also_for_one_step(function) if self.noise == "brownian" and self.multistep else function


_OWN: dict[str, Callable[..., torch.Tensor]] = {"ddim": sample_ddim, "lcm": sample_lcm}


def _also_for_one_step(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """k-diffusion's multistep SDE samplers fail when a single step runs; it leads to x0, as Euler's does."""

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, *, callback: Any = None, **options: Any) -> Any:
        if len(sigmas) == 2:
            return load_ldm().k_sampling.sample_euler(model, x, sigmas, callback=callback, disable=True)
        return function(model, x, sigmas, callback=callback, **options)

    return sample


SAMPLERS: tuple[Sampler, ...] = (
    Sampler("DPM++ 2M", "dpmpp_2m", ("k_dpmpp_2m",), "Karras", multistep=True),
    Sampler("DPM++ SDE", "dpmpp_sde", ("k_dpmpp_sde",), "Karras", noise="brownian"),
    Sampler("DPM++ 2M SDE", "dpmpp_2m_sde", ("k_dpmpp_2m_sde",), "Exponential", noise="brownian", multistep=True),
    Sampler(
        "DPM++ 2M SDE Heun",
        "dpmpp_2m_sde",
        ("k_dpmpp_2m_sde_heun",),
        "Exponential",
        noise="brownian",
        multistep=True,
        options=(("solver_type", "heun"),),
    ),
    Sampler("DPM++ 2S a", "dpmpp_2s_ancestral", ("k_dpmpp_2s_a",), "Karras", noise="ancestral"),
    Sampler(
        "DPM++ 3M SDE",
        "dpmpp_3m_sde",
        ("k_dpmpp_3m_sde",),
        "Exponential",
        noise="brownian",
        multistep=True,
        discard_penultimate=True,
    ),
    Sampler("Euler a", "euler_ancestral", ("k_euler_a", "k_euler_ancestral", "euler ancestral"), noise="ancestral"),
    Sampler("Euler", "euler", ("k_euler",)),
    Sampler("LMS", "lms", ("k_lms",), multistep=True),
    Sampler("Heun", "heun", ("k_heun",)),
    Sampler("DPM2", "dpm_2", ("k_dpm_2",), "Karras", discard_penultimate=True),
    Sampler("DPM2 a", "dpm_2_ancestral", ("k_dpm_2_a",), "Karras", noise="ancestral", discard_penultimate=True),
    Sampler("LCM", "lcm", ("k_lcm",), noise="ancestral"),
    Sampler("DDIM", "ddim", ("ddim",)),
)


def _find(name: str, kind: str, known: dict[str, str]) -> str:
    found = known.get(name.strip().lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(name.strip().lower(), known, n=1, cutoff=0.0)
    raise UserError(
        f"There is no {kind} named {name!r}.",
        hint=f"The nearest is {known[near[0]]!r}. Known: {', '.join(dict.fromkeys(known.values()))}.",
    )


def _names(samplers: Iterable[Sampler]) -> dict[str, str]:
    return {key.lower(): sampler.name for sampler in samplers for key in (sampler.name, *sampler.aliases)}


def _schedule_names() -> dict[str, str]:
    names = {name.lower(): name for name in ("Automatic", *SCHEDULES)}
    return {**names, **SCHEDULE_ALIASES}


def find_sampler(name: str, scheduler: str = "Automatic") -> tuple[Sampler, str]:
    """The sampler of a name, and the name of the schedule it will use.

    A schedule may also follow the sampler's name, as older versions of the webui wrote it: "DPM++ 2M Karras".

    Raises:
        UserError: no such sampler or schedule; names the nearest one.
    """
    schedules = _schedule_names()
    chosen = _find(scheduler, "noise schedule", schedules)
    known = _names(SAMPLERS)
    key = name.strip().lower()
    if key not in known:
        for ending, schedule in schedules.items():
            if key.endswith(" " + ending) and key.removesuffix(" " + ending) in known:
                key, chosen = key.removesuffix(" " + ending), schedule
                break
    found = _find(key if key in known else name, "sampler", known)
    sampler = next(sampler for sampler in SAMPLERS if sampler.name == found)
    return sampler, sampler.schedule if chosen == "Automatic" else chosen


def entry_step(steps: int, denoising_strength: float) -> int:
    """The webui's t_enc: img2img runs the last t_enc + 1 of `steps` steps (DDIM: two fewer model calls)."""
    return int(min(denoising_strength, 0.999) * steps)


def sigma_schedule(sampler: Sampler, schedule: str, steps: int, discrete: torch.nn.Module) -> torch.Tensor:
    """Noise levels of a full run, (steps + 1,), descending to 0.

    Args:
        discrete: k-diffusion's DiscreteSchedule of the model.
    """
    n = steps + 1 if sampler.discard_penultimate else steps
    low, high = float(discrete.sigma_min), float(discrete.sigma_max)  # type: ignore[arg-type]
    sigmas = SCHEDULES[schedule](n, low, high, discrete).cpu()
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if sampler.discard_penultimate else sigmas
