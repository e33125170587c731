from __future__ import annotations

import numpy as np
import pytest
import torch

from rerender.diffusion.freeu import FreeU, free_u, scale_backbone, scale_low_frequencies
from rerender.hosts.standalone.ldm_import import load_ldm
from tests.diffusion.toys import make_sampling, sampling_plan


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_backbone_factor_follows_the_mean_over_channels():
    h = noise(1, 4, 5, 6)
    scaled = scale_backbone(h, 1.5)
    mean = h[0].mean(0).numpy()
    factor = 0.5 * (mean - mean.min()) / (mean.max() - mean.min()) + 1
    np.testing.assert_allclose(scaled[0, :2].numpy(), h[0, :2].numpy() * factor, rtol=1e-4, atol=1e-6)
    assert torch.equal(scaled[:, 2:], h[:, 2:])


def test_mean_is_scaled_and_fine_detail_stays():
    y = torch.arange(16.0)
    fine = torch.cos(torch.pi * y)[:, None].expand(16, 16)
    skip = (3 + fine)[None, None]
    scaled = scale_low_frequencies(skip, 0.2)
    torch.testing.assert_close(scaled, (0.6 + fine)[None, None], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("periods", "factor"), [(1, 0.6), (2, 1.0)])
def test_the_lowest_frequencies_alone_are_scaled(periods, factor):
    """Radius 1 reaches from -1 to 0 periods a picture in each direction: of a wave of one period that is half."""
    wave = torch.cos(2 * torch.pi * periods * torch.arange(16.0) / 16)[:, None].expand(16, 16)[None, None]
    torch.testing.assert_close(scale_low_frequencies(wave, 0.2), factor * wave, atol=1e-5, rtol=0)


def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_ldm().openaimodel.UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, attention_resolutions=[], num_res_blocks=1,
            channel_mult=[1, 2, 4], num_heads=1, use_checkpoint=False,
        )  # fmt: skip
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize(("factors", "changes"), [(FreeU(1, 1, 1, 1), False), (FreeU(), True)])
def test_on_the_real_unet(factors, changes):
    model, x, t = unet(), noise(2, 4, 8, 8), torch.ones(2)
    sampling = make_sampling("euler", torch.nn.Identity(), sampling_plan("euler", 2)[3], model)
    plain = model(x, t)
    with free_u(sampling, factors):
        scaled = model(x, t)
    assert torch.allclose(plain, scaled, atol=1e-4) != changes
    assert torch.equal(plain, model(x, t))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_each_stage_of_the_decoder_gets_its_own_factors():
    """Innermost stage (4 · channels): b1, s1; the next one (2 · channels): b2, s2; the outermost is left alone."""
    model, given, changed = unet(), [], []
    sampling = make_sampling("euler", torch.nn.Identity(), sampling_plan("euler", 2)[3], model)
    for block in model.output_blocks:
        block.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with free_u(sampling, FreeU(b1=1.1, b2=1.2, s1=0.3, s2=0.4)):
        for block in model.output_blocks:
            block.register_forward_pre_hook(lambda _, args: changed.append(args[0]))
        model(noise(2, 4, 8, 8), torch.ones(2))
    widths = [128, 128, 128, 64, 64, 32]  # of the backbone: what the block before has given
    for h, found, width in zip(given, changed, widths, strict=True):
        b, s = {128: (1.1, 0.3), 64: (1.2, 0.4), 32: (None, None)}[width]
        expected = (
            h if b is None else torch.cat([scale_backbone(h[:, :width], b), scale_low_frequencies(h[:, width:], s)], 1)
        )
        torch.testing.assert_close(found, expected)
        assert torch.equal(found, h) == (b is None)
