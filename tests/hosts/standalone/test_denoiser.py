"""The CFG denoiser in both forms, and ldm's attention by torch's fused kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rerender.errors import Interrupted
from rerender.hosts.standalone import StandaloneHost, load_host
from rerender.hosts.standalone.attention import original_attention, use_original, use_sdpa
from rerender.hosts.standalone.config import sd1_config
from rerender.hosts.standalone.denoiser import CFGDenoiser
from rerender.hosts.standalone.ldm_import import load_ldm

ALPHAS = sd1_config().alphas_cumprod()
SIGMAS = ((1 - ALPHAS) / ALPHAS) ** 0.5
COND, UNCOND = torch.full((1, 77, 2), 2.0), torch.full((1, 77, 2), 1.0)


class _Recorded(torch.nn.Module):
    """A U-Net whose output is its context's first value; notes its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        self.calls.append((x, t, context))
        return torch.zeros_like(x) + context[:, :1, :1, None]


def _denoiser(unet: torch.nn.Module, form: str = "timestep", **changes: object) -> CFGDenoiser:
    options: dict[str, object] = {"cond": COND, "uncond": UNCOND, "cfg_scale": 3.0, "parameterization": "eps"}
    return CFGDenoiser(unet, ALPHAS, form=form, **{**options, **changes})  # type: ignore[arg-type]


def test_guidance_moves_from_uncond_past_cond() -> None:
    unet = _Recorded()
    eps = _denoiser(unet)(torch.randn(2, 4, 2, 2), torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(eps, torch.full((2, 4, 2, 2), 1 + (2 - 1) * 3.0))


def test_cond_rows_come_first_in_one_call() -> None:
    unet = _Recorded()
    x = torch.randn(2, 4, 2, 2)
    _denoiser(unet)(x, torch.tensor([5.0, 5.0]))
    ((rows, t, context),) = unet.calls
    assert torch.equal(rows, torch.cat([x, x]))
    assert t.tolist() == [5.0] * 4
    assert context[:, 0, 0].tolist() == [2, 2, 1, 1]


def test_prompts_of_unequal_length_take_two_calls_in_the_same_order() -> None:
    unet = _Recorded()
    x = torch.randn(1, 4, 2, 2)
    long = torch.full((1, 154, 2), 2.0)
    eps = _denoiser(unet, cond=long)(x, torch.tensor([5.0]))
    assert [call[2].shape[1] for call in unet.calls] == [154, 77]
    torch.testing.assert_close(eps, torch.full((1, 4, 2, 2), 4.0))


def test_sigma_form_is_the_preconditioning_of_eps_models() -> None:
    """x0 = y - σ·eps, the U-Net sees y / sqrt(σ² + 1) and the timestep of σ."""
    unet = _Recorded()
    y = torch.randn(1, 4, 2, 2)
    sigma = SIGMAS[400][None]
    x0 = _denoiser(unet, "sigma")(y, sigma)
    ((rows, t, _),) = unet.calls
    torch.testing.assert_close(x0, y - sigma * 4.0)
    torch.testing.assert_close(rows[:1], y / (sigma**2 + 1) ** 0.5)
    torch.testing.assert_close(t, torch.full((2,), 400.0), atol=1e-2, rtol=0)


class _KnowsX0(torch.nn.Module):
    """An ideal model of a single picture, predicting eps or v for it."""

    def __init__(self, x0: torch.Tensor, kind: str) -> None:
        super().__init__()
        self.x0, self.kind = x0, kind

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        a = ALPHAS[t.round().long()][:, None, None, None]
        eps = (x - a.sqrt() * self.x0) / (1 - a).sqrt()
        return eps if self.kind == "eps" else a.sqrt() * eps - (1 - a).sqrt() * self.x0


@pytest.mark.parametrize("timestep", [1, 250, 999])
def test_v_and_eps_models_of_the_same_picture_agree(timestep: int) -> None:
    x0, noise = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    a, sigma = ALPHAS[timestep], SIGMAS[timestep]
    results = {}
    for kind in ("eps", "v"):
        unet = _KnowsX0(x0, kind)
        y = x0 + sigma * noise
        x = a.sqrt() * x0 + (1 - a).sqrt() * noise
        estimate = _denoiser(unet, "sigma", parameterization=kind)(y, sigma[None])
        eps = _denoiser(unet, "timestep", parameterization=kind)(x, torch.tensor([float(timestep)]))
        torch.testing.assert_close(estimate, x0, atol=2e-3, rtol=0)
        torch.testing.assert_close(eps, noise, atol=2e-3, rtol=0)
        results[kind] = (estimate, eps)
    torch.testing.assert_close(results["eps"], results["v"], atol=2e-3, rtol=0)


def test_cancelling_comes_before_the_unet() -> None:
    unet = _Recorded()
    denoiser = _denoiser(unet, cancelled=lambda: True)
    with pytest.raises(Interrupted):
        denoiser(torch.randn(1, 4, 2, 2), torch.tensor([5.0]))
    assert unet.calls == []


# --- attention -------------------------------------------------------------------------------------------------------


def test_fused_attention_equals_ldms(host: StandaloneHost) -> None:
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 32, generator=generator)
    t = torch.tensor([500.0, 20.0])
    image = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    with torch.no_grad():
        fused = host.unet(x, t, context=context), host.encode(image)
        with original_attention(host.unet), original_attention(host._model.vae):
            plain = host.unet(x, t, context=context), host.encode(image)
    torch.testing.assert_close(fused, plain, atol=1e-4, rtol=1e-4)
    assert float(plain[0].std()) > 0.01


def test_fused_attention_takes_masks_and_other_contexts() -> None:
    torch.manual_seed(0)
    attention = load_ldm().attention.CrossAttention(16, 12, heads=4, dim_head=4)
    x, context, mask = torch.randn(2, 9, 16), torch.randn(2, 30, 12), torch.rand(2, 30) > 0.5
    with torch.no_grad():
        expected = attention(x, context=context, mask=mask)
        use_sdpa(attention)
        torch.testing.assert_close(attention(x, context=context, mask=mask), expected, atol=1e-5, rtol=1e-5)


def test_the_patch_is_undone_exactly(tiny_checkpoint: Path) -> None:
    unet = load_host(tiny_checkpoint, device="cpu").unet
    attentions = [module for module in unet.modules() if type(module).__name__ == "CrossAttention"]
    assert attentions
    assert all("forward" in vars(module) for module in attentions)
    use_sdpa(unet)
    use_original(unet)
    assert not any("forward" in vars(module) for module in unet.modules())


def test_importing_ldm_leaves_no_stand_ins(host: StandaloneHost) -> None:
    import sys

    load_ldm()
    for name in ("pytorch_lightning", "torchvision", "torchvision.utils", "k_diffusion"):
        module = sys.modules.get(name)
        assert module is None or getattr(module, "__file__", None)
