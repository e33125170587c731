"""The latent consistency sampler against the paper's formulas, in plain numbers."""

from __future__ import annotations

import math

import pytest
import torch

from rerender.errors import UserError
from rerender.hosts.standalone.denoiser import CFGDenoiser
from rerender.hosts.standalone.lcm import boundary, distilled, sample_lcm

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)


class OneAnswer(torch.nn.Module):
    """A U-Net that predicts `scale` times its input, and notes the timesteps."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.timesteps: list[list[float]] = []

    def forward(self, x, t, context=None):
        self.timesteps.append(t.tolist())
        return self.scale * x


def denoiser(unet, parameterization: str = "eps") -> CFGDenoiser:
    cond = torch.zeros(1, 77, 4)
    options = {"parameterization": parameterization, "form": "sigma", "consistency": True}
    return CFGDenoiser(unet, ALPHAS, cond=cond, uncond=cond, cfg_scale=1.0, **options)


def test_the_distilled_timesteps_are_every_twentieth():
    assert len(distilled(ALPHAS)) == 50
    assert distilled(torch.arange(1000))[[0, 1, -1]].tolist() == [19, 39, 999]


@pytest.mark.parametrize("timestep", [19, 499, 999])
@pytest.mark.parametrize("between", [1.0, 1.02])
def test_the_answer_is_the_papers(timestep, between):
    """f = c_skip x + c_out x̂0 with x in the sampler's form; a level between two timesteps counts as the nearest."""
    a = float(ALPHAS[timestep])
    sigma = math.sqrt((1 - a) / a) * between
    y, scale = 0.8, 0.3
    unet = OneAnswer(scale)
    found = denoiser(unet)(torch.full((1, 4, 2, 2), y, dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64))
    eps = scale * y / math.sqrt(sigma**2 + 1)
    t = 10.0 * timestep
    expected = 0.25 / (t**2 + 0.25) * y + t / math.sqrt(t**2 + 0.25) * (y - sigma * eps)
    torch.testing.assert_close(found, torch.full_like(found, expected))
    assert unet.timesteps == [[timestep, timestep]]


def test_at_the_boundary_nothing_is_changed():
    x, x0 = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    torch.testing.assert_close(boundary(x, x0, torch.tensor([0])), x)


def test_each_step_goes_to_the_picture_and_back_to_the_next_level():
    sigmas = torch.tensor([10.0, 3.0, 0.5, 0.0])
    seen = []

    def model(x, sigma):
        seen.append((x.clone(), float(sigma)))
        return 0.5 * x

    noise = torch.full((1, 1, 1, 1), 2.0)
    found = sample_lcm(model, torch.full((1, 1, 1, 1), 8.0), sigmas, noise_sampler=lambda *_: noise)
    # 8 → 4 + 3·2 = 10 → 5 + 0.5·2 = 6 → 3
    assert [(float(x), sigma) for x, sigma in seen] == [(8.0, 10.0), (10.0, 3.0), (6.0, 0.5)]
    assert float(found) == 3.0


def test_a_model_that_predicts_velocity_is_refused():
    with pytest.raises(UserError, match="LCM"):
        denoiser(OneAnswer(1.0), "v")
