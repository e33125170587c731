"""The host as a whole: what `render` promises, on a tiny checkpoint with random weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from rerender.diffusion.window import Window
from rerender.errors import Interrupted, RerenderError, UserError
from rerender.host import ModelCall, Sampling
from rerender.hosts.standalone import StandaloneHost, load_host
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.noise import NoiseSource
from rerender.hosts.standalone.samplers import SAMPLERS, Sampler
from tests.diffusion.toys import make_sampling

NAMES = [sampler.name for sampler in SAMPLERS]


class Spy:
    """An `attach` that notes what it was given and each call of the denoiser."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.levels: list[float] = []
        self.latents: list[torch.Tensor] = []
        self.sampling: Sampling | None = None

    @contextmanager
    def __call__(self, sampling: Sampling) -> Iterator[None]:
        self.entered += 1
        self.sampling = sampling

        def note(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self.latents.append(args[0])
            self.levels.append(float(args[1].flatten()[0]))

        handle = sampling.denoiser.register_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()
            self.left += 1

    @property
    def calls(self) -> list[ModelCall]:
        assert self.sampling is not None
        return list(self.sampling.calls)

    def sigmas(self) -> list[float]:
        """The noise levels of the calls that were made."""
        assert self.sampling is not None
        if self.sampling.form == "sigma":
            return self.levels
        alphas = self.sampling.alphas_cumprod
        return [float(((1 - alphas[int(t)]) / alphas[int(t)]) ** 0.5) for t in self.levels]


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize(("steps", "strength"), [(5, 0.7), (1, 1.0), (6, 0.0)])
def test_the_calls_that_were_announced_are_made(
    host: StandaloneHost, request_of, sampler: str, steps: int, strength: float
) -> None:
    spy, done = Spy(), []
    request = request_of(sampler=sampler, steps=steps, denoising_strength=strength)
    rendered = host.render(request, attach=spy, on_step=lambda *step: done.append(step))
    assert spy.sigmas() == pytest.approx([call.sigma for call in spy.calls], rel=1e-4)
    assert (spy.entered, spy.left) == (1, 1)
    steps_that_run = spy.sampling.steps  # type: ignore[union-attr]
    assert done == [(i + 1, steps_that_run) for i in range(steps_that_run)]
    t_enc = int(min(strength, 0.999) * steps)
    assert steps_that_run == (max(t_enc - 1, 0) if sampler == "DDIM" else t_enc + 1)
    assert [call.step for call in spy.calls if call.first] == list(range(steps_that_run))
    assert rendered.picture.shape == request.picture.shape
    assert rendered.picture.dtype == np.uint8
    assert rendered.latent.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=NAMES)
def test_every_number_of_steps_has_a_plan(host: StandaloneHost, request_of, sampler: Sampler) -> None:
    """From 1 to 150: which calls will be made is known, and each period holds a step where any runs."""
    noise = host._noise_source(0, torch.Size((1, 4, 1, 1)))
    for steps, strength in itertools.product((1, 2, 3, 4, 7, 30, 60, 80, 99, 149, 150), (0.0, 0.75, 1.0)):
        request = request_of(sampler=sampler.name, steps=steps, denoising_strength=strength)
        plan = host._plan(request, sampler, sampler.schedule, noise)
        firsts = [call for call in plan.calls if call.first]
        t_enc = int(min(strength, 0.999) * steps)
        assert len(firsts) == (max(t_enc - 1, 0) if sampler.name == "DDIM" else t_enc + 1)
        assert [call.step for call in firsts] == list(range(len(firsts)))
        assert all(a.sigma > b.sigma for a, b in pairwise(firsts))
        sampling = make_sampling("euler", host.unet, plan.calls)
        for unit, period in itertools.product(("steps", "noise"), ((0, 0.1), (0.5, 0.8), (0.8, 1.0))):
            assert bool(Window(*period, unit).steps(sampling)) == bool(firsts)  # type: ignore[arg-type]


def test_lcm_goes_through_levels_it_was_distilled_at(host: StandaloneHost, request_of) -> None:
    """From timestep 999 to 19, not to 0."""
    spy = Spy()
    host.render(request_of(sampler="LCM", steps=4, denoising_strength=1.0), attach=spy)
    alphas = host._model.alphas_cumprod
    ends = [float(((1 - alphas[t]) / alphas[t]) ** 0.5) for t in (999, 19)]
    assert [spy.calls[0].sigma, spy.calls[-1].sigma] == pytest.approx(ends, rel=1e-4)


def test_the_brownian_path_spans_the_whole_schedule(host: StandaloneHost, request_of, monkeypatch) -> None:
    """As in the webui: the noise of a level is the same at any strength."""
    spans: list[int] = []
    original = NoiseSource.brownian
    monkeypatch.setattr(NoiseSource, "brownian", lambda self, s: (spans.append(len(s)), original(self, s))[1])
    for strength in (0.3, 1.0):
        host.render(request_of(sampler="DPM++ SDE", steps=5, denoising_strength=strength))
    assert spans == [6, 6]


@pytest.mark.parametrize("sampler", NAMES)
def test_equal_requests_give_equal_pictures_and_touch_no_global_state(
    host: StandaloneHost, request_of, sampler: str
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = host.render(request_of(sampler=sampler, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = host.render(request_of(sampler=sampler, seed=5))
    other = host.render(request_of(sampler=sampler, seed=6))
    assert torch.equal(first.latent, second.latent)
    assert np.array_equal(first.picture, second.picture)
    assert not np.array_equal(first.picture, other.picture)


@pytest.mark.parametrize("sampler", [name for name in NAMES if name != "LCM"])  # which goes on from the estimate alone
def test_in_place_edits_reach_the_sampler(host: StandaloneHost, request_of, sampler: str) -> None:
    """The first call of a step gets the sampler's own latent: where it is changed after the estimate was made, and the
    estimate is a constant, the next call still sees the change."""

    def second_latent(shift: float) -> torch.Tensor:
        seen: list[torch.Tensor] = []

        def edit(_: torch.nn.Module, args: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
            seen.append(args[0].clone())
            if len(seen) == 1:
                args[0].add_(shift)
            return torch.ones_like(args[0])

        @contextmanager
        def attach(sampling: Sampling) -> Iterator[None]:
            handle = sampling.denoiser.register_forward_hook(edit)
            try:
                yield
            finally:
                handle.remove()

        host.render(request_of(sampler=sampler), attach=attach)
        return seen[1]

    change = second_latent(1.0) - second_latent(0.0)
    assert float(change.min()) > 0.01
    assert float(change.std()) < 1e-4


@pytest.mark.parametrize("sampler", NAMES)
def test_a_replaced_estimate_decides_the_result(host: StandaloneHost, request_of, sampler: str) -> None:
    goal = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        def estimate(_: torch.nn.Module, args: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
            if sampling.form == "sigma":
                return goal.clone()
            a = sampling.alphas_cumprod[int(args[1][0])]
            return (args[0] - a.sqrt() * goal) / (1 - a).sqrt()

        handle = sampling.denoiser.register_forward_hook(estimate)
        try:
            yield
        finally:
            handle.remove()

    latent = host.render(request_of(sampler=sampler, steps=8), attach=attach).latent
    # The webui's DDIM ends at timestep 1, with the noise of that level (.04) still in it.
    tolerance = 0.25 if sampler == "DDIM" else 2e-3
    torch.testing.assert_close(latent, goal, atol=tolerance, rtol=0)


def test_start_is_the_encoded_picture_with_noise_of_the_seed(host: StandaloneHost, request_of) -> None:
    """x0 + σ·n with the webui's CPU noise; σ is the level of the first step that runs."""
    spy = Spy()
    latent = torch.randn(1, 4, 8, 8)
    host.render(request_of(sampler="Euler", seed=11, initial_latent=latent, steps=1), attach=_first_latent(spy))
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(11))
    torch.testing.assert_close(spy.latents[0], latent + noise * spy.calls[0].sigma)


def _first_latent(spy: Spy):
    """Like the spy, but keeps a copy of the first latent, which the sampler may change later."""

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        spy.sampling = sampling

        def keep(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            spy.latents.append(args[0].clone())

        handle = sampling.denoiser.register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    return attach


def test_ddim_starts_at_the_timestep_above_its_first(host: StandaloneHost, request_of) -> None:
    spy = Spy()
    latent = torch.randn(1, 4, 8, 8)
    request = request_of(sampler="DDIM", seed=11, initial_latent=latent, steps=6, denoising_strength=0.6)
    host.render(request, attach=_first_latent(spy))
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(11))
    a = spy.sampling.alphas_cumprod[499]  # type: ignore[union-attr]
    torch.testing.assert_close(spy.latents[0], a.sqrt() * latent + (1 - a).sqrt() * noise)


def test_the_initial_latent_is_a_sample_of_the_posterior(host: StandaloneHost, request_of, picture: np.ndarray) -> None:
    """mean + std·n, n drawn with the picture's seed; at strength 0 nearly nothing is added to it."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = host._model.vae.encode(image)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(9))
    expected = (posterior.mean + posterior.std * noise) * 0.18215
    torch.testing.assert_close(host._initial_latent(request_of(seed=9)), expected)
    torch.testing.assert_close(host.encode(image), posterior.mean * 0.18215)


def test_decoding_is_clamped_and_fractions_are_cut_off(host: StandaloneHost, request_of) -> None:
    image = host.decode(torch.randn(2, 4, 8, 8) * 20)
    assert image.shape == (2, 3, 64, 64)
    assert float(image.min()) == -1
    assert float(image.max()) == 1
    rendered = host.render(request_of())
    values = (host.decode(rendered.latent)[0].permute(1, 2, 0).numpy() + 1) / 2
    assert np.abs(np.floor(values * 255) - rendered.picture).max() <= 1e-3 * 255  # rounding of values next to a whole
    assert (rendered.picture <= values * 255 + 1e-3).all()


def test_prompt_cfg_and_clip_skip_matter(host: StandaloneHost, request_of) -> None:
    base = host.render(request_of()).latent
    for change in (
        {"prompt": "a dog"},
        {"prompt": "a (cat:1.4)"},
        {"negative_prompt": "dog"},
        {"cfg_scale": 3.0},
        {"clip_skip": 2},
        {"scheduler": "Uniform"},
        {"prompt": "a cat BREAK in a hat"},
    ):
        assert not torch.allclose(host.render(request_of(**change)).latent, base), change


@pytest.mark.parametrize("after", [0, 1, 2])
def test_cancelling_stops_before_the_next_model_call(host: StandaloneHost, request_of, after: int) -> None:
    spy = Spy()
    answers = iter([False] * after + [True])
    with pytest.raises(Interrupted):
        host.render(request_of(), attach=spy, cancelled=lambda: next(answers))
    assert (spy.entered, spy.left) == (1, 1)
    assert len(spy.levels) == after + 1
    assert host.render(request_of()).picture.any()


def test_an_exception_in_a_hook_leaves_the_host_usable(host: StandaloneHost, request_of) -> None:
    openaimodel = load_ldm().openaimodel
    state, before = torch.get_rng_state(), host.render(request_of()).picture

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        raise KeyError("hook")
        yield

    with pytest.raises(KeyError):
        host.render(request_of(), attach=attach)
    assert openaimodel.th is torch
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(host.render(request_of()).picture, before)


@pytest.mark.parametrize("size", [(64, 72), (40, 104), (24, 56)])
def test_sides_need_only_be_multiples_of_8(host: StandaloneHost, request_of, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 90, np.uint8)
    assert host.render(request_of(picture=picture, steps=2)).picture.shape == (*size, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "Eular"}, "no sampler named 'Eular'"),
        ({"scheduler": "karras2"}, "no noise schedule named 'karras2'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 151}, "steps is 151"),
        ({"denoising_strength": 1.5}, "denoising_strength is 1.5"),
        ({"clip_skip": 0}, "clip_skip is 0"),
        ({"picture": np.zeros((60, 64, 3), np.uint8)}, "64×60"),
        ({"picture": np.zeros((64, 64, 4), np.uint8)}, "uint8 RGB"),
        ({"picture": np.zeros((64, 64, 3), np.float32)}, "uint8 RGB"),
        ({"initial_latent": torch.zeros(1, 4, 9, 8)}, "initial_latent"),
        ({"prompt": "a <lora:ink:1>"}, "no LoRA folder"),
    ],
)
def test_requests_that_cannot_be_served(host: StandaloneHost, request_of, change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        host.render(request_of(**change))


def test_numbers_that_are_none_are_an_error_not_a_black_picture(tiny_checkpoint: Path, request_of) -> None:
    host = load_host(tiny_checkpoint, device="cpu")
    host.unet.out[2].bias.data.fill_(float("nan"))
    with pytest.raises(RerenderError, match="no numbers"):
        host.render(request_of())


def test_noise_may_be_drawn_on_the_device(tiny_checkpoint: Path, host: StandaloneHost, request_of) -> None:
    """On a CPU both of the webui's noise sources are the same."""
    on_device = load_host(tiny_checkpoint, device="cpu", noise_on_device=True)
    request = replace(request_of(), sampler="DPM++ SDE")
    assert torch.equal(on_device.render(request).latent, host.render(request).latent)
