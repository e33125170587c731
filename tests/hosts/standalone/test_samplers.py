"""Samplers, schedules and the webui's step conventions, against plain loops over the published formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from rerender.diffusion.plan import rehearse
from rerender.errors import UserError
from rerender.hosts.standalone.config import sd1_config
from rerender.hosts.standalone.ddim import ddim_timesteps, sample_ddim
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.noise import NoiseSource, untouched_random_state
from rerender.hosts.standalone.samplers import (
    SAMPLERS,
    Sampler,
    entry_step,
    find_sampler,
    sigma_schedule,
)
from rerender.hosts.standalone.schedules import SCHEDULES

CPU = torch.device("cpu")
SHAPE = torch.Size((1, 4, 4, 4))
ALPHAS = sd1_config().alphas_cumprod()
SIGMAS = ((1 - ALPHAS) / ALPHAS) ** 0.5
BY_NAME = {sampler.name: sampler for sampler in SAMPLERS}
K_SAMPLERS = [sampler for sampler in SAMPLERS if sampler.form == "sigma"]


def _discrete() -> torch.nn.Module:
    return load_ldm().k_external.DiscreteSchedule(SIGMAS, False)


def _toy(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """An x0 estimate that depends on latent and level, smooth in both."""
    return torch.sin(x / (1 + sigma[:, None, None, None])) * 0.7 + 0.1


def _run(sampler: Sampler, model, steps: int, seed: int = 3, strength: float = 1.0, schedule: str | None = None):
    sigmas = sigma_schedule(sampler, schedule or sampler.schedule, steps, _discrete())
    levels = sigmas[steps - entry_step(steps, strength) - 1 :]
    source = NoiseSource(seed, SHAPE, CPU, CPU)
    x = source.draw() * levels[0]
    options = dict(sampler.options)
    if sampler.noise == "ancestral":
        options["noise_sampler"] = source.ancestral()
    elif sampler.noise == "brownian":
        options["noise_sampler"] = source.brownian(sigmas)
    return sampler.resolve()(model, x, levels, disable=True, **options)


# --- schedules -------------------------------------------------------------------------------------------------------


def test_karras_schedule_is_equation_5_of_the_paper() -> None:
    n, low, high = 7, float(SIGMAS[0]), float(SIGMAS[-1])
    expected = [(high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)] + [0]
    found = sigma_schedule(BY_NAME["DPM++ 2M"], "Karras", n, _discrete())
    torch.testing.assert_close(found, torch.tensor(expected))


def test_uniform_schedule_takes_equally_spaced_timesteps() -> None:
    found = sigma_schedule(BY_NAME["Euler"], "Uniform", 4, _discrete())
    expected = [math.exp(float(SIGMAS.log()[t])) for t in (999, 666, 333, 0)] + [0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_exponential_schedule_is_linear_in_the_logarithm() -> None:
    found = sigma_schedule(BY_NAME["Euler"], "Exponential", 5, _discrete())
    steps = found[:-1].log().diff()
    torch.testing.assert_close(steps, steps[:1].expand(4))
    assert float(found[0]) == pytest.approx(float(SIGMAS[-1]))
    assert float(found[4]) == pytest.approx(float(SIGMAS[0]))


def test_samplers_that_leave_out_the_last_but_one_level() -> None:
    full = SCHEDULES["Karras"](6, float(SIGMAS[0]), float(SIGMAS[-1]), _discrete())
    found = sigma_schedule(BY_NAME["DPM2"], "Karras", 5, _discrete())
    assert found.tolist() == [*full[:-2].tolist(), 0.0]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 20, 150])
def test_every_schedule_descends_to_zero(name: str, steps: int) -> None:
    for sampler in (BY_NAME["Euler"], BY_NAME["DPM++ 3M SDE"]):
        sigmas = sigma_schedule(sampler, name, steps, _discrete())
        assert sigmas.shape == (steps + 1,)
        assert float(sigmas[-1]) == 0
        assert (sigmas.diff() < 0).all()


# --- steps and strength ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "strength", "t_enc"),
    [
        (6, 0.6, 3),
        (20, 0.75, 15),
        (20, 1.0, 19),
        (20, 0.0, 0),
        (20, 0.04, 0),
        (20, 0.05, 1),
        (1, 1.0, 0),
        (150, 0.5, 75),
    ],
)
def test_strength_follows_the_webui(steps: int, strength: float, t_enc: int) -> None:
    assert entry_step(steps, strength) == t_enc


# As observed in a running webui 1.10.1 at 6 steps, strength .6.
MODEL_CALLS = {"Euler a": 4, "DPM++ 2M": 4, "Heun": 7, "DPM++ SDE": 7}


@pytest.mark.parametrize(("name", "calls"), MODEL_CALLS.items())
def test_number_of_model_calls_is_the_webuis(name: str, calls: int) -> None:
    seen: list[float] = []

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return _toy(x, sigma)

    _run(BY_NAME[name], model, 6, strength=0.6)
    assert len(seen) == calls


def test_ddim_timesteps_are_the_webuis() -> None:
    assert ddim_timesteps(6).tolist() == [1, 167, 333, 499, 665, 831, 997]
    assert ddim_timesteps(1).tolist() == [1]
    assert ddim_timesteps(20).tolist() == [1 + 50 * i for i in range(20)]
    assert len(ddim_timesteps(150)) == 167  # 1000 // 150 = 6; that is how the webui counts
    levels = ddim_timesteps(6)[: entry_step(6, 0.6)]
    calls = rehearse(sample_ddim, levels, alphas_cumprod=ALPHAS)
    assert [call.sigma for call in calls] == [333, 167]


# --- samplers --------------------------------------------------------------------------------------------------------


def test_euler_against_a_plain_loop() -> None:
    sigmas = sigma_schedule(BY_NAME["Euler"], "Uniform", 8, _discrete()).double()
    x = NoiseSource(3, SHAPE, CPU, CPU).draw().double() * sigmas[0]
    for sigma, following in pairwise(sigmas):
        eps = (x - _toy(x, sigma[None])) / sigma
        x = x + (following - sigma) * eps
    torch.testing.assert_close(_run(BY_NAME["Euler"], _toy, 8).double(), x, atol=1e-5, rtol=1e-5)


def test_euler_a_against_a_plain_loop_with_the_same_draws() -> None:
    sigmas = sigma_schedule(BY_NAME["Euler a"], "Uniform", 6, _discrete())
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SHAPE, generator=generator) * sigmas[0]
    for sigma, following in pairwise(sigmas):
        x0 = _toy(x, sigma[None])
        up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        down = (following**2 - up**2) ** 0.5
        x = x0 + down * (x - x0) / sigma
        if following > 0:
            x = x + up * torch.randn(SHAPE, generator=generator)
    torch.testing.assert_close(_run(BY_NAME["Euler a"], _toy, 6), x, atol=1e-4, rtol=1e-4)


def test_dpmpp_2m_against_the_papers_update() -> None:
    """Lu et al. 2022, algorithm 2, in λ = -log σ; the first and the last step are of first order."""
    sigmas = sigma_schedule(BY_NAME["DPM++ 2M"], "Karras", 6, _discrete()).double()
    x = NoiseSource(3, SHAPE, CPU, CPU).draw().double() * sigmas[0]
    previous = None
    for i in range(6):
        x0 = _toy(x, sigmas[i][None])
        if float(sigmas[i + 1]) == 0:
            x = x0
            break
        h = float((sigmas[i] / sigmas[i + 1]).log())
        D = x0
        if previous is not None:
            r = float((sigmas[i - 1] / sigmas[i]).log()) / h
            D = (1 + 1 / (2 * r)) * x0 - previous / (2 * r)
        x = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * D
        previous = x0
    torch.testing.assert_close(_run(BY_NAME["DPM++ 2M"], _toy, 6).double(), x, atol=1e-5, rtol=1e-5)


def test_ddim_against_a_plain_loop() -> None:
    """Song et al. 2021, equation 12 with η = 0."""
    timesteps = ddim_timesteps(10)[:8]
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cos(x + t[:, None, None, None] / 300)

    x = start.double()
    for high, low in zip(reversed(timesteps[1:].tolist()), reversed(timesteps[:-1].tolist()), strict=True):
        a, b = float(ALPHAS[high]), float(ALPHAS[low])
        noise = eps(x, torch.tensor([float(high)]))
        x = b**0.5 * (x - (1 - a) ** 0.5 * noise) / a**0.5 + (1 - b) ** 0.5 * noise
    found = sample_ddim(eps, start, timesteps, alphas_cumprod=ALPHAS)
    torch.testing.assert_close(found.double(), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", K_SAMPLERS, ids=lambda sampler: sampler.name)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_a_constant_estimate_is_where_every_sampler_ends(sampler: Sampler, steps: int) -> None:
    goal = torch.linspace(-1, 1, 64).reshape(SHAPE)
    found = _run(sampler, lambda x, sigma: goal.clone(), steps)
    torch.testing.assert_close(found, goal, atol=2e-3 if sampler.name == "LMS" else 1e-4, rtol=0)


@pytest.mark.parametrize(("name", "solver"), [("DPM++ 2M SDE", "midpoint"), ("DPM++ 2M SDE Heun", "heun")])
def test_dpmpp_2m_sde_against_the_papers_update(name: str, solver: str) -> None:
    """Lu et al. 2022, SDE-DPM-Solver++(2M): the second-order term of either solver, with the noise left out."""
    sigmas = sigma_schedule(BY_NAME[name], "Exponential", 5, _discrete()).double()
    levels = sigmas[1:]  # as img2img enters
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).double() * levels[0]
    start, previous = x.clone(), None
    for i in range(len(levels) - 2):
        x0 = _toy(x, levels[i][None])
        h = float((levels[i] / levels[i + 1]).log())
        phi = -math.expm1(-2 * h)  # the stochastic part doubles the exponent
        x = levels[i + 1] / levels[i] * math.exp(-h) * x + phi * x0
        if previous is not None:
            slope = (x0 - previous[0]) / (previous[1] / h)
            x = x + (0.5 * phi if solver == "midpoint" else phi / (-2 * h) + 1) * slope
        previous = x0, h
    x = _toy(x, levels[-2][None])
    options = {**dict(BY_NAME[name].options), "noise_sampler": lambda *_: torch.zeros(SHAPE, dtype=torch.float64)}
    found = BY_NAME[name].resolve()(_toy, start, levels, disable=True, **options)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)


def test_ddim_ends_at_the_lowest_timestep_of_the_webui() -> None:
    """With x0 known, DDIM moves along x0 and a fixed noise, so its end is known exactly: timestep 1, not 0."""
    goal, noise = torch.full(SHAPE, 0.5), torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    timesteps = ddim_timesteps(12)
    start = ALPHAS[timesteps[-1]].sqrt() * goal + (1 - ALPHAS[timesteps[-1]]).sqrt() * noise

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = ALPHAS[int(t)]
        return (x - a.sqrt() * goal) / (1 - a).sqrt()

    end = sample_ddim(eps, start, timesteps, alphas_cumprod=ALPHAS)
    torch.testing.assert_close(end, ALPHAS[1].sqrt() * goal + (1 - ALPHAS[1]).sqrt() * noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", K_SAMPLERS, ids=lambda sampler: sampler.name)
def test_samplers_are_deterministic_by_seed_alone(sampler: Sampler) -> None:
    torch.manual_seed(1)
    first = _run(sampler, _toy, 5)
    torch.manual_seed(2)
    assert torch.equal(_run(sampler, _toy, 5), first)
    assert not torch.allclose(_run(sampler, _toy, 5, seed=4), first)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_multistep_samplers_are_marked(sampler: Sampler) -> None:
    """A multistep sampler's step depends on the estimates of earlier steps, any other's on the last one alone."""

    def run(early: float) -> torch.Tensor:
        calls = 0

        def model(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            with torch.no_grad():
                if calls == 2:
                    x.fill_(0.5)  # the latent forgets, so only a history can remember the first estimate
            return torch.full_like(x, early if calls == 1 else 0.2)

        x = torch.ones(SHAPE)
        options = dict(sampler.options)
        if sampler.form == "timestep":
            return sample_ddim(model, x, ddim_timesteps(8), alphas_cumprod=ALPHAS)
        if sampler.noise != "none":
            options["noise_sampler"] = lambda sigma, following: torch.zeros(SHAPE)
        return sampler.resolve()(model, x, torch.tensor([8.0, 4, 2, 1]), disable=True, **options)

    second_order = {"Heun", "DPM2", "DPM2 a", "DPM++ SDE", "DPM++ 2S a"}
    if sampler.name in second_order:
        assert not sampler.multistep
        return
    assert (not torch.allclose(run(0.0), run(1.0), atol=1e-6)) == sampler.multistep


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scheduler", "found"),
    [
        ("DPM++ 2M", "Automatic", ("DPM++ 2M", "Karras")),
        ("dpm++ 2m", "uniform", ("DPM++ 2M", "Uniform")),
        ("DPM++ 2M", "normal", ("DPM++ 2M", "Uniform")),
        ("DPM++ 2M Karras", "Automatic", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE", "Automatic", ("DPM++ 2M SDE", "Exponential")),
        ("DPM++ 2M SDE Karras", "Automatic", ("DPM++ 2M SDE", "Karras")),
        ("Euler", "Automatic", ("Euler", "Uniform")),
        ("k_euler_a", "Automatic", ("Euler a", "Uniform")),
        ("ddim", "Automatic", ("DDIM", "Uniform")),
    ],
)
def test_names(name: str, scheduler: str, found: tuple[str, str]) -> None:
    sampler, schedule = find_sampler(name, scheduler)
    assert (sampler.name, schedule) == found


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(UserError, match="no sampler named 'Eulr'") as caught:
        find_sampler("Eulr")
    assert "nearest is 'Euler'" in caught.value.hint
    with pytest.raises(UserError, match="no noise schedule named 'karas'") as caught:
        find_sampler("Euler", "karas")
    assert "nearest is 'Karras'" in caught.value.hint


# --- noise -----------------------------------------------------------------------------------------------------------


def test_noise_is_the_webuis_cpu_noise() -> None:
    """The webui: a generator seeded with the picture's seed, then draws of (4, h, w)."""
    source = NoiseSource(42, SHAPE, CPU, CPU)
    generator = torch.Generator().manual_seed(42)
    for _ in range(3):
        assert torch.equal(source.draw()[0], torch.randn(SHAPE[1:], generator=generator))


def test_brownian_noise_is_normal_and_a_function_of_the_levels() -> None:
    shape = torch.Size((1, 4, 32, 32))
    sigmas = torch.tensor([10.0, 5.0, 2.0, 0.0])
    one, two = (NoiseSource(7, shape, CPU, CPU).brownian(sigmas) for _ in range(2))
    first, second = one(sigmas[0], sigmas[1]), one(sigmas[1], sigmas[2])
    assert torch.equal(two(sigmas[1], sigmas[2]), second)
    assert torch.equal(two(sigmas[0], sigmas[1]), first)
    for noise in (first, second):
        assert float(noise.std()) == pytest.approx(1, abs=0.06)
        assert float(noise.mean()) == pytest.approx(0, abs=0.06)
    # Increments of one path: the whole is the sum of its parts.
    whole = one(sigmas[0], sigmas[2]) * 8**0.5
    torch.testing.assert_close(whole, first * 5**0.5 + second * 3**0.5, atol=1e-4, rtol=1e-4)


def test_global_random_state_is_left_as_it_was() -> None:
    state = torch.get_rng_state()

    def draw_and_fail() -> None:
        with untouched_random_state(CPU):
            torch.manual_seed(99)
            torch.randn(3)
            raise KeyError

    with pytest.raises(KeyError):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), state)
