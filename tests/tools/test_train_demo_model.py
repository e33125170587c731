from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerender.evaluate.looks import LOOKS, apply_look
from rerender.evaluate.scenes import scene
from tools.train_demo_model import autoencoder, latents, model, runs, tokenizer, unet
from tools.train_demo_model.data import Pictures
from tools.train_demo_model.looks_like import edge_correlation, nearest_look


def smooth_pictures(count: int, side: int) -> torch.Tensor:
    """Blurred noise with strong colour casts, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, side // 8, side // 8, generator=generator)
    cast = torch.randn(count, 3, 1, 1, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic")
    return (0.35 * fine + 0.3 * cast).clamp(-1, 1)


@pytest.fixture(scope="module")
def started() -> tuple[Any, autoencoder.Components]:
    torch.manual_seed(0)
    pictures = smooth_pictures(8, 64)
    components = autoencoder.find_components(pictures)
    built = model.build_autoencoder()
    autoencoder.start_from_components(built, pictures, components)
    return built, components


def test_components_are_white_and_explain_variance_best_first() -> None:
    pictures = smooth_pictures(8, 64)
    components = autoencoder.find_components(pictures)
    z = components.latents(pictures).movedim(1, -1).reshape(-1, 4)
    assert torch.allclose(z.mean(0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(torch.cov(z.T), torch.eye(4), atol=1e-3)


def test_the_started_encoder_is_the_linear_map_on_pictures_it_has_not_seen(started: Any) -> None:
    built, components = started
    unseen = smooth_pictures(12, 96)[8:]
    with torch.no_grad():
        found = autoencoder.encode(built, unseen)
    wanted = components.latents(unseen)
    assert (found - wanted).square().mean() < 0.01 * wanted.square().mean()


def test_the_started_decoder_returns_smooth_pictures(started: Any) -> None:
    built, components = started
    picture = smooth_pictures(8, 64)
    with torch.no_grad():
        assert runs.psnr(autoencoder.decode(built, components.latents(picture)), picture) > 24


def test_fast_decoding_is_decoding() -> None:
    torch.manual_seed(0)
    built: Any = model.build_autoencoder()
    z = torch.randn(2, 4, 3, 5)
    with torch.no_grad():
        whole = built.decoder(z)
        assert torch.allclose(autoencoder.fast_decode(built.decoder, z, finest=True), whole, atol=1e-4)
        assert not torch.allclose(autoencoder.fast_decode(built.decoder, z, finest=False), whole, atol=1e-4)


def test_normalised_latents_are_those_on_disk_and_decode_to_the_same(started: Any, tmp_path: Path) -> None:
    built, components = started
    normal: Any = model.build_autoencoder()
    normal.load_state_dict(built.state_dict())
    latents.normalise_latents(normal)
    frames = ((smooth_pictures(2, 64) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    latents.write_latents(components, Pictures(frames[:, None], ["", ""]), tmp_path / "z.npy")
    on_disk = torch.from_numpy(np.load(tmp_path / "z.npy")[:, 0]).float()
    x = autoencoder.to_tensor(frames)
    with torch.no_grad():
        posterior = normal.encode(x)
        scaled = model.SCALE_FACTOR * posterior.mean
        assert (scaled - on_disk).abs().mean() < 0.1
        std = model.SCALE_FACTOR * posterior.std
        assert torch.allclose(std, torch.full_like(std, autoencoder.POSTERIOR_STD * model.LATENT_STD), rtol=1e-3)
        same = autoencoder.decode(normal, posterior.mean) - autoencoder.decode(built, autoencoder.encode(built, x))
        assert same.abs().max() < 0.02


def test_noised_examples_lead_to_their_look_and_bridges_begin_at_the_photograph() -> None:
    values = np.random.default_rng(0).standard_normal((3, len(LOOKS), 4, 8, 8)).astype(np.float16)
    batch = unet.draw(values, ["a", "b", "c"], np.random.default_rng(1), 64, 8)
    alphas = model.alphas_cumprod()[batch.t].view(-1, 1, 1, 1)
    denoised = (batch.x - (1 - alphas).sqrt() * batch.target) / alphas.sqrt()
    everything = torch.from_numpy(values.reshape(-1, 4 * 8 * 8)).float()
    assert torch.cdist(denoised.flatten(1), everything).min(dim=1).values.max() < 0.05
    # The constant "noise" of a bridge is the noise plus (photograph - look) / sigma0: wider than plain noise.
    assert (batch.target.flatten(1).std(dim=1) > 1.2).float().mean() > 0.3
    assert 0 < batch.captions.count("") < 20


def test_the_noise_schedule_is_sd1() -> None:
    alphas = model.alphas_cumprod()
    assert float(alphas[0]) == pytest.approx(1 - 0.00085, rel=1e-5)
    assert float(((1 - alphas[-1]) / alphas[-1]).sqrt()) == pytest.approx(14.6146, rel=1e-4)


def test_learning_rate_rises_stays_and_falls() -> None:
    rates = [runs.learning_rate(step, 1000, 1e-3) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[100] == rates[600] == 1e-3
    assert rates[-1] == pytest.approx(2e-5)
    assert rates[200:] == sorted(rates[200:], reverse=True)


def test_the_average_follows_and_checkpoints_come_back(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    average = runs.Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    before = (average.weights["weight"] - 3).abs()
    average.update(layer, 10**6)
    assert torch.allclose((average.weights["weight"] - 3).abs(), 0.9 * before)
    checkpoints = runs.Checkpoints(tmp_path / "run.pt")
    assert checkpoints.load() is None
    checkpoints.save({"step": 7, "average": average.weights})
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["step"] == 7
    assert torch.equal(loaded["average"]["weight"], average.weights["weight"])
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(1, 3, 4, 4)
    assert runs.psnr(a, a + 10 / 127.5) == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)


def test_the_tokeniser_gives_clips_numbers(tmp_path: Path) -> None:
    tokenizer.write_tokenizer(tmp_path)
    found = tokenizer.tokenize(tokenizer.load_tokenizer(tmp_path), ["a photo of a cat", ""])
    assert found.shape == (2, 77)
    # The numbers that OpenAI's CLIP gives these words.
    assert found[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert found[1].tolist() == [49406] + [49407] * 76


def test_the_text_encoder_cannot_make_a_webui_divide_by_zero() -> None:
    torch.manual_seed(0)
    clip: Any = model.build_clip()
    with torch.no_grad():
        z = clip(torch.tensor([[49406, 320, 2368, 49407]])).last_hidden_state
    assert abs(float(z.mean())) > 1e-2


def test_fused_attention_is_attention() -> None:
    torch.manual_seed(0)
    from rerender.hosts.standalone.ldm_import import load_ldm

    plain = load_ldm().attention.CrossAttention(query_dim=16, context_dim=8, heads=4, dim_head=4)
    x, context = torch.randn(2, 9, 16), torch.randn(2, 5, 8)
    with torch.no_grad():
        assert torch.allclose(model._FusedAttention(plain)(x, context), plain(x, context), atol=1e-5)


@pytest.mark.parametrize("look", LOOKS)
def test_true_looks_are_recognised_through_noise(look: str) -> None:
    frame = scene("translation", 5, (96, 96), 1).frame(0)
    looked = apply_look(frame, look)
    noisy = np.clip(looked.astype(int) + np.random.default_rng(0).integers(-20, 21, looked.shape), 0, 255)
    assert nearest_look(noisy.astype(np.uint8), frame) == look


def test_edge_correlation_tells_the_layout() -> None:
    frame = scene("translation", 5, (96, 96), 1).frame(0)
    assert edge_correlation(frame, frame) == pytest.approx(1)
    assert edge_correlation(frame, 255 - frame) == pytest.approx(1, abs=0.01)
    assert edge_correlation(apply_look(frame, "oil"), frame) > 0.5 > edge_correlation(frame[:, ::-1], frame)


MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.skipif(not (MODELS / "rerender-demo.safetensors").is_file(), reason="no checkpoint in models/")
def test_the_committed_checkpoint_is_small_complete_and_works() -> None:
    from rerender.host import RenderRequest
    from rerender.hosts.standalone import load_host

    path = MODELS / "rerender-demo.safetensors"
    assert path.stat().st_size < 40_000_000
    host = load_host(path, device="cpu")
    frame = scene("translation", 9000, (64, 64), 1).frame(0)
    request = RenderRequest(frame, "an ink wash", steps=4, cfg_scale=2.5, denoising_strength=0.5)
    out = host.render(request).picture
    assert host.load_report is not None
    assert not host.load_report.missing
    assert not host.load_report.unused
    assert out.std() > 5
