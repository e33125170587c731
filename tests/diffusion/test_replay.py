from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from rerender.diffusion.replay import UNetTape, record_unet, replaced_forward, replay_unet
from rerender.errors import RerenderError
from tests.diffusion.toys import SAMPLERS, ToyDenoiser, ToyUNet, make_sampling, sampling_plan


def run(name, unet, attach, split=(2,), steps=5):
    function, levels, options, calls = sampling_plan(name, steps)
    denoiser = ToyDenoiser(unet, "timestep" if name == "ddim" else "sigma", split)
    start = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    with attach(make_sampling(name, denoiser, calls, unet)):
        return function(denoiser, start, levels, disable=True, **options)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("split", [(2,), (1, 1)])
def test_second_run_is_the_same_without_the_shared_calls(name, split):
    unet, tape = ToyUNet(), UNetTape()
    first = run(name, unet, lambda s: record_unet(s, tape, until=3), split)
    made = len(unet.batches)
    unet.batches.clear()
    second = run(name, unet, lambda s: replay_unet(s, tape), split)
    assert torch.equal(first, second)
    assert len(unet.batches) == made - 3 * len(split)


def test_another_number_of_answers_is_an_error():
    unet, tape = ToyUNet(), UNetTape()
    run("euler", unet, lambda s: record_unet(s, tape, until=3))
    tape.answers.pop()
    with pytest.raises(RerenderError, match="same model calls"):
        run("euler", unet, lambda s: replay_unet(s, tape))
    run("euler", unet, lambda s: record_unet(s, tape, until=3))
    with pytest.raises(RerenderError, match="same model calls"):
        run("euler", unet, lambda s: replay_unet(s, tape), split=(2,), steps=2)


@pytest.mark.parametrize("patched", [False, True])
def test_forward_is_restored_exactly(patched):
    module = torch.nn.Linear(2, 2)
    if patched:
        module.forward = lambda x: x
    before = dict(vars(module))
    with suppress(ZeroDivisionError), replaced_forward(module, lambda original, x: original(x) + 1):
        module(torch.zeros(1, 2))
        raise ZeroDivisionError
    assert vars(module) == before
