from __future__ import annotations

import pytest
import torch

from rerender.diffusion.edits import Constraint, Estimates, Mixed, edits
from rerender.errors import RerenderError
from tests.diffusion.toys import SAMPLERS, ToyDenoiser, ToyUNet, make_sampling, sampling_plan

SHAPE = (1, 4, 4, 6)


def run(name, constraints, steps=6, watch=None):
    """Sample with edits; watch(denoiser) may add hooks that see what the sampler sees."""
    function, levels, options, calls = sampling_plan(name, steps)
    unet = ToyUNet()
    denoiser = ToyDenoiser(unet, "timestep" if name == "ddim" else "sigma")
    sampling = make_sampling(name, denoiser, calls, unet)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)) * (1 if name == "ddim" else 14.6)
    with edits(sampling, constraints):
        if watch is not None:
            watch(denoiser)
        return function(denoiser, start.clone(), levels, disable=True, **options), sampling


class SetTo(Constraint):
    def __init__(self, value):
        self.value = value

    def after(self, index, call, x0):
        return self.value


class Shift(Constraint):
    def __init__(self, at, delta):
        self.at, self.delta = at, delta

    def after(self, index, call, x0):
        return x0 + self.delta if call.step == self.at else None


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_setting_the_estimate_sets_the_result(name, steps):
    if steps == 1 and name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        pytest.skip("k-diffusion's own function fails with a single step")
    value = torch.linspace(-1, 1, 96).reshape(SHAPE)
    result, sampling = run(name, [SetTo(value)], steps)
    if name == "ddim":  # ends with the noise of its last level: x = sqrt(a)·x0 + sqrt(1 - a)·eps
        last = []
        result, sampling = run(
            name, [SetTo(value)], steps, lambda d: d.register_forward_hook(lambda m, a, out: last.append(out.clone()))
        )
        a = float(sampling.alphas_cumprod[10])
        result = (result - (1 - a) ** 0.5 * last[-1]) / a**0.5
    # LMS mixes older noise estimates into its last step: exact only for its first step.
    if name != "lms" or steps == 1:
        torch.testing.assert_close(result, value, atol=2e-4, rtol=0)


class Spy:
    """The latents in sigma form and noise estimates that the sampler ends up with, call by call."""

    def __init__(self, name, calls):
        self.form, self.calls, self.y, self.e = "timestep" if name == "ddim" else "sigma", calls, [], []

    def __call__(self, denoiser):
        denoiser.register_forward_hook(self.note)

    def note(self, module, args, output):
        call = self.calls[len(self.y)]
        y = args[0] if self.form == "sigma" else args[0] * (1 + call.sigma**2) ** 0.5
        self.y.append(y.clone())
        self.e.append((y - output) / call.sigma if self.form == "sigma" else output.clone())


class FixedNoise(torch.nn.Module):
    """Answers every call with a noise estimate laid down beforehand."""

    def __init__(self, name, calls):
        super().__init__()
        self.form, self.calls, self.count = ("timestep" if name == "ddim" else "sigma"), calls, 0
        generator = torch.Generator().manual_seed(3)
        self.e = [torch.randn(SHAPE, generator=generator) for _ in calls]

    def forward(self, x, level):
        e, sigma = self.e[self.count], self.calls[self.count].sigma
        self.count += 1
        return e.clone() if self.form == "timestep" else x - sigma * e


def run_fixed(name, constraints, steps=7):
    function, levels, options, calls = sampling_plan(name, steps)
    denoiser = FixedNoise(name, calls)
    sampling, spy = make_sampling(name, denoiser, calls), Spy(name, calls)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with edits(sampling, constraints):
        spy(denoiser)
        function(denoiser, start.clone(), levels, disable=True, **options)
    return spy, calls


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_edit_moves_every_later_latent_by_the_same_and_leaves_the_noise(name, at):
    """y_next = x̂0' + sigma_next·e: with the noise estimates unchanged, Δ at one step is Δ from there on."""
    delta = torch.linspace(-1, 1, 96).reshape(SHAPE)
    plain, calls = run_fixed(name, [])
    edited, _ = run_fixed(name, [Shift(at, delta)])
    where = next(i for i, call in enumerate(calls) if call.step == at)
    assert len(plain.y) > where + 1
    for i, (before, after) in enumerate(zip(plain.y, edited.y, strict=True)):
        moved = delta if i >= where else torch.zeros(SHAPE)
        torch.testing.assert_close(after - before, moved, atol=3e-4, rtol=0)
    for before, after in zip(plain.e, edited.e, strict=True):
        torch.testing.assert_close(after, before, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde"])
def test_only_first_calls_are_edited(name):
    asked = []

    class Ask(Constraint):
        def after(self, index, call, x0):
            asked.append((index, call.first))

    _, sampling = run(name, [Ask()])
    assert len(sampling.calls) > sampling.steps
    assert asked == [(i, True) for i, call in enumerate(sampling.calls) if call.first]


@pytest.mark.parametrize("name", SAMPLERS)
def test_estimates_before_a_call_are_those_of_the_last_call(name):
    seen, spy = [], []

    class Look(Constraint):
        def before(self, index, call, y, x0, e):
            seen.append((index, y, x0, e))
            torch.testing.assert_close(y, x0 + call.sigma * e, atol=1e-3, rtol=1e-4)

    function, levels, options, calls = sampling_plan(name, 5)
    denoiser = FixedNoise(name, calls)
    with edits(make_sampling(name, denoiser, calls), [Look()]):
        denoiser.register_forward_hook(lambda m, a, out: spy.append((a[0].clone(), out.clone())))
        function(denoiser, torch.ones(SHAPE), levels, disable=True, **options)
    assert [index for index, *_ in seen] == [i for i, call in enumerate(calls) if call.first and i > 0]
    for index, _, x0, _ in seen:
        latent, out = spy[index - 1]
        sigma = calls[index - 1].sigma
        expected = out if name != "ddim" else latent * (1 + sigma**2) ** 0.5 - sigma * out
        torch.testing.assert_close(x0, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "ddim"])
def test_a_mixing_is_told_of_the_estimate_as_it_was_edited(name):
    """So that the noise estimate it is told of is still the model's."""
    seen = {}

    class Look(Constraint):
        def before(self, index, call, y, x0, e):
            seen[index] = x0, e

    told = []
    for delta in (0.0, 1.0):
        run_fixed(name, [Shift(2, torch.full(SHAPE, delta)), Look()])
        told.append(dict(seen))
    torch.testing.assert_close(told[1][3][0], told[0][3][0] + 1, atol=1e-3, rtol=0)
    torch.testing.assert_close(told[1][3][1], told[0][3][1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "euler", "ddim"])
def test_mixing_before_a_call_moves_the_history_with_the_latent(name):
    """A mix that is a mere shift must act like an edit of the estimate: no step sees a jump between estimates."""
    delta = torch.linspace(-1, 1, 96).reshape(SHAPE)

    class MixShift(Constraint):
        def before(self, index, call, y, x0, e):
            return Mixed(y + delta, delta) if call.step == 3 else None

    plain, _ = run_fixed(name, [])
    mixed, _ = run_fixed(name, [MixShift()])
    for i, (before, after) in enumerate(zip(plain.y, mixed.y, strict=True)):
        torch.testing.assert_close(after - before, delta * (i >= 3), atol=3e-4, rtol=0)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m_sde", "euler"])
def test_estimates_are_kept_as_they_were_at_their_step(name):
    """A later edit moves a multistep sampler's history, but no estimate that was kept."""
    plain, edited = Estimates(), Estimates()
    run_fixed(name, [plain])
    run_fixed(name, [Shift(3, torch.ones(SHAPE)), edited])
    for call in range(3):
        torch.testing.assert_close(edited.x0[call], plain.x0[call], atol=1e-4, rtol=0)


def test_mixings_before_a_call_follow_one_another():
    """The second is told of the estimate and noise that the first has left."""
    seen = []

    class Mix(Constraint):
        def before(self, index, call, y, x0, e):
            seen.append((x0.clone(), e.clone()))
            return Mixed(y + 1, torch.ones(SHAPE))

    run_fixed("euler", [Mix(), Mix()], steps=2)
    torch.testing.assert_close(seen[1][0], seen[0][0] + 1)
    torch.testing.assert_close(seen[1][1], seen[0][1], atol=1e-3, rtol=0)


def test_constraints_follow_one_another():
    class Double(Constraint):
        def after(self, index, call, x0):
            return 2 * x0

    value = torch.full(SHAPE, 0.25)
    result, _ = run("euler", [SetTo(value), Double()])
    torch.testing.assert_close(result, 2 * value, atol=1e-5, rtol=0)


def test_without_constraints_nothing_changes():
    function, levels, _, _ = sampling_plan("dpmpp_2m", 6)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)) * 14.6
    plain = function(ToyDenoiser(ToyUNet()), start.clone(), levels, disable=True)
    hooked, _ = run("dpmpp_2m", [Constraint()])
    assert torch.equal(plain, hooked)


def test_no_hook_is_left_after_an_error():
    class Fail(Constraint):
        def after(self, index, call, x0):
            raise ZeroDivisionError

    _, levels, _, calls = sampling_plan("euler", 3)
    denoiser = ToyDenoiser(ToyUNet())
    with pytest.raises(ZeroDivisionError), edits(make_sampling("euler", denoiser, calls), [Fail()]):
        denoiser(torch.zeros(SHAPE), levels[:1])
    assert not denoiser._forward_hooks
    assert not denoiser._forward_pre_hooks


@pytest.mark.parametrize("planned", [2, 4])
def test_other_calls_than_announced_are_refused(planned):
    function, levels, _, _ = sampling_plan("euler", 3)
    calls = sampling_plan("euler", planned)[3]
    denoiser = ToyDenoiser(ToyUNet())
    with pytest.raises(RerenderError, match="called the model"), edits(make_sampling("euler", denoiser, calls), []):
        function(denoiser, torch.zeros(SHAPE), levels, disable=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents(dtype):
    class Half(torch.nn.Module):
        def forward(self, x, level):
            assert x.dtype == dtype
            return (x * 0.5).to(dtype)

    calls = sampling_plan("euler", 3)[3]
    denoiser, x = Half(), torch.ones(SHAPE, dtype=dtype)
    with pytest.raises(RerenderError), edits(make_sampling("euler", denoiser, calls), [Shift(0, torch.ones(SHAPE))]):
        out = denoiser(x, torch.ones(1))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), torch.full(SHAPE, 1.5))
    torch.testing.assert_close(x.float(), torch.full(SHAPE, 2.0))
