"""Live previews: the fitted colours are right, every step is shown, and the picture stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rerender.host import RenderRequest
from rerender.hosts.standalone import load_host
from rerender.preview import LinearDecoder, PreviewingHost


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.integers(0, 256, (1, 3, 4, 4)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(small, size=(64, 64), mode="bilinear")
    return smooth[0].permute(1, 2, 0).round().byte().numpy()


def test_linear_map_is_found_again() -> None:
    cells = torch.from_numpy(picture()).permute(2, 0, 1)[None].float()
    cells = torch.nn.functional.adaptive_avg_pool2d(cells, (8, 8))
    mixed = torch.einsum("cd,bdhw->bchw", torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), cells / 127)
    shown = LinearDecoder(mixed, picture())(mixed)
    assert shown.shape == (8, 8, 3)
    assert np.abs(shown.astype(float) - cells[0].permute(1, 2, 0).numpy()).mean() < 2


def test_picture_of_one_colour_gives_that_colour() -> None:
    flat = np.full((64, 64, 3), (200, 30, 90), np.uint8)
    latent = torch.ones(1, 4, 8, 8) * torch.tensor([1.0, -2, 0.5, 0]).view(1, 4, 1, 1)
    assert np.abs(LinearDecoder(latent, flat)(latent).astype(int) - flat[:8, :8]).max() <= 1


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "DDIM", "Heun"])
def test_every_step_is_shown_and_the_picture_is_the_same(tiny_checkpoint: Path, sampler: str) -> None:
    host = load_host(tiny_checkpoint)
    request = RenderRequest(picture(), "a cat", sampler=sampler, steps=6, denoising_strength=0.6)
    shown: list[np.ndarray] = []
    plain = host.render(request)
    steps: list[int] = []
    previewing = PreviewingHost(host, shown.append)  # type: ignore[arg-type]
    watched = previewing.render(request, on_step=lambda done, total: steps.append(done))
    assert np.array_equal(plain.picture, watched.picture)
    assert len(shown) == len(steps) > 1
    assert {each.shape for each in shown} == {(8, 8, 3)}


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DDIM"])
def test_last_step_has_the_colours_of_the_result(sampler: str) -> None:
    """With a trained autoencoder; the demo model's is one."""
    host = load_host(Path(__file__).parent.parent / "models" / "rerender-demo.safetensors")
    shown: list[np.ndarray] = []
    request = RenderRequest(picture(), "an oil painting", sampler=sampler, steps=8, denoising_strength=0.4, cfg_scale=2)
    result = PreviewingHost(host, shown.append).render(request).picture  # type: ignore[arg-type]
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(result).permute(2, 0, 1)[None].float(), 8)
    error = np.abs(shown[-1] - small[0].permute(1, 2, 0).numpy()).mean()
    assert error < 8
    assert error < 0.5 * np.abs(shown[-1] - np.roll(small[0].permute(1, 2, 0).numpy(), 4, axis=1)).mean()


def test_nothing_is_made_when_nobody_looks(tiny_checkpoint: Path) -> None:
    shown: list[np.ndarray] = []
    host = PreviewingHost(load_host(tiny_checkpoint), shown.append, wanted=lambda: False)  # type: ignore[arg-type]
    host.render(RenderRequest(picture(), "a cat", steps=4))
    assert shown == []
    assert host.identity()["checkpoint"] == tiny_checkpoint.name
