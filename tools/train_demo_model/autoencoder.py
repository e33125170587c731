"""The autoencoder: its encoder takes principal components of 8x8 blocks, its decoder is trained to undo that."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train_demo_model import held_out
from tools.train_demo_model.data import Pictures
from tools.train_demo_model.model import build_autoencoder
from tools.train_demo_model.runs import Average, Checkpoints, learning_rate, psnr

log = logging.getLogger(__name__)

POSTERIOR_STD = 0.03
"""Noise on latents of standard deviation 1 in training: the posterior's constant width."""

OFFSET = 32.0
"""The constant of `_anchor_groups`, for signals of about unit variance."""

PHOTO_SHARE = 0.5
"""Part of the training crops that are photographs; the rest is spread over the looks."""


@dataclass(frozen=True)
class Components:
    """The linear map from 8x8x3 blocks to latents of mean 0 and variance 1, and all that is needed to install it."""

    mean: Tensor
    """(192,)"""
    project: Tensor
    """(32, 192); the first four rows make the latents, the others give the decoder's gradients somewhere to go."""

    def latents(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 4, H/8, W/8)."""
        blocks = F.pixel_unshuffle(pictures, 8).movedim(1, -1)
        return ((blocks - self.mean) @ self.project[:4].T).movedim(-1, 1)


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw(pictures: Pictures, rng: np.random.Generator, batch: int, side: int) -> Tensor:
    """Random crops in random looks, mirrored and turned: (batch, 3, side, side)."""
    count, looks, size = pictures.pixels.shape[:3]
    crops = []
    for _ in range(batch):
        look = 0 if rng.random() < PHOTO_SHARE else int(rng.integers(1, looks))
        top, left = rng.integers((size - side) // 8 + 1, size=2) * 8
        crop = pictures.pixels[rng.integers(count), look, top : top + side, left : left + side]
        crop = np.rot90(crop, int(rng.integers(4)))
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return to_tensor(np.stack(crops))


def encode(model: nn.Module, x: Tensor) -> Tensor:
    """The mean latent (B, 4, H/8, W/8)."""
    mean: Tensor = model.encode(x).mean  # type: ignore[operator]
    return mean


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), nominally in [-1, 1]."""
    picture: Tensor = model.decode(z)  # type: ignore[operator]
    return picture


def find_components(pictures: Tensor) -> Components:
    """Principal components of the 8x8x3 blocks of (B, 3, H, W) pictures."""
    flat = F.pixel_unshuffle(pictures, 8).movedim(1, -1).reshape(-1, 192)
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((flat - mean).T))
    values, vectors = values.flip(0)[:32], vectors.flip(1)[:, :32]
    values[4:] += 0.02 * values[3]  # the faint ones are not blown up
    return Components(mean, (vectors / values.sqrt()).T.contiguous())


@torch.no_grad()
def start_from_components(model: Any, pictures: Tensor, components: Components) -> None:
    """Set weights so that latents are the first four principal components, before any training.

    Residual branches start at zero; the down-sampling convolutions move 2x2 blocks into channels, the last one
    projects onto components; both output convolutions are fitted by least squares.

    Args:
        model: an AutoencoderKL with `num_res_blocks` 0 and 96 channels at all levels.
        pictures: (B, 3, H, W) in [-1, 1] to fit to.
    """
    _start_encoder(model, pictures, components)
    _start_decoder(model, pictures, components)


def _quiet_residuals(part: Any) -> None:
    for module in part.modules():
        if type(module).__name__ == "ResnetBlock":
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
        elif type(module).__name__.endswith("AttnBlock"):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)


def _start_encoder(model: Any, pictures: Tensor, components: Components) -> None:
    encoder = model.encoder
    channels = encoder.conv_in.out_channels
    _quiet_residuals(encoder)
    encoder.conv_in.weight[:3] = 0
    encoder.conv_in.bias[:3] = 0
    for c in range(3):
        encoder.conv_in.weight[c, c, 1, 1] = 1
    for level, width in ((0, 3), (1, 12)):
        conv = encoder.down[level].downsample.conv
        conv.weight[: 4 * width] = 0
        conv.bias[: 4 * width] = 0
        for c in range(width):
            for i in range(2):
                for j in range(2):  # the convolution pads right and below: taps (0, 0) to (1, 1) are the block
                    conv.weight[4 * c + 2 * i + j, c, i, j] = 1
    project = torch.zeros(channels, 192)
    project[1::3] = components.project
    conv = encoder.down[2].downsample.conv
    conv.weight.zero_()
    conv.weight[:, :48, :2, :2] = project.reshape(channels, 48, 2, 2)
    conv.bias.copy_(-project @ components.mean)
    _anchor_groups(conv)
    for norm in (encoder.mid.block_1.norm1, encoder.mid.attn_1.norm, encoder.mid.block_2.norm1):
        _recentre(norm, OFFSET)
    _recentre(encoder.norm_out, 0.1)
    target = F.pad(components.latents(pictures).movedim(1, -1).reshape(-1, 4), (0, 4))
    features = _before(encoder, encoder.conv_out, lambda: encoder(pictures))
    encoder.conv_out.weight.zero_()
    solution = _least_squares(features.movedim(1, -1).reshape(-1, channels), target, ridge=1e-10)
    encoder.conv_out.weight[:, :, 1, 1] = solution[:-1].T
    encoder.conv_out.bias.copy_(solution[-1])
    encoder.conv_out.bias[4:] = 2 * np.log(POSTERIOR_STD)
    for conv in (model.quant_conv, model.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.in_channels)[:, :, None, None])
        conv.bias.zero_()


def _anchor_groups(conv: nn.Conv2d) -> None:
    """Make the GroupNorm(32) that follows, with three channels a group, nearly linear and invertible.

    The middle channel keeps its signal; the outer two become the constants OFFSET and -OFFSET. They set the variance,
    and where the norm puts them shows what mean it took off. (One number a group is all that a norm lets through: no
    picture's mean can pass in two channels, nor two means in three.)
    """
    assert conv.out_channels == 96
    for first, constant in ((0, OFFSET), (2, -OFFSET)):
        conv.weight[first::3] = 0
        conv.bias[first::3] = constant  # type: ignore[index]


def _recentre(norm: nn.GroupNorm, gain: float) -> None:
    """Let a norm after `_anchor_groups` take the constants off again and multiply the signal by gain / OFFSET.

    With a small gain SiLU is nearly linear, x / 2.
    """
    norm.weight.fill_(gain * (2 / 3) ** 0.5)
    norm.bias.copy_(gain * torch.tensor([-1.0, 0.0, 1.0]).repeat(32))


def _start_decoder(model: Any, pictures: Tensor, components: Components) -> None:
    decoder = model.decoder
    channels = decoder.conv_in.out_channels
    _quiet_residuals(decoder)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    for level in (3, 2, 1):
        conv = decoder.up[level].upsample.conv
        conv.weight.mul_(0.2)
        conv.bias.zero_()
        for c in range(channels):  # after doubling, this kernel interpolates linearly; the odd ones keep blocks
            conv.weight[c, c] += torch.outer(smooth, smooth) if c % 4 < 2 else F.pad(torch.ones(1, 1), (1, 1, 1, 1))
    _anchor_groups(decoder.up[1].upsample.conv)
    _recentre(decoder.up[0].block[0].norm1, OFFSET)
    _recentre(decoder.norm_out, 1.0)
    inputs, outputs = [], []
    for picture in pictures.split(1):
        latent = components.latents(picture)
        features = _before(decoder, decoder.conv_out, lambda z=latent: decode(model, z))
        patches = F.unfold(features, 3, padding=1)[0].T
        pick = torch.randperm(len(patches))[: 40_000 // len(pictures)]
        inputs.append(patches[pick])
        outputs.append(picture[0].flatten(1).T[pick])
    solution = _least_squares(torch.cat(inputs), torch.cat(outputs))
    decoder.conv_out.weight.copy_(solution[:-1].T.reshape(3, channels, 3, 3))
    decoder.conv_out.bias.copy_(solution[-1])


def _before(part: nn.Module, layer: nn.Module, run: Any) -> Tensor:
    """What arrives at a layer when `run` is called."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    run()
    handle.remove()
    return seen[0]


def _least_squares(x: Tensor, y: Tensor, ridge: float = 1e-3) -> Tensor:
    """Weights (inputs + 1, outputs), the last row for the constant."""
    centre, level = x.mean(0), y.mean(0)
    x, y = (x - centre).double(), (y - level).double()
    gram = x.T @ x
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, x.T @ y).float()
    return torch.cat([weights, (level - centre @ weights)[None]])


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """Absolute and squared differences, differences of gradients, and differences at coarser scales."""
    loss = F.l1_loss(out, target) + 2 * F.mse_loss(out, target)
    for axis in (2, 3):
        loss = loss + 0.25 * F.l1_loss(out.diff(dim=axis), target.diff(dim=axis))
    for scale in (2, 4, 8):
        loss = loss + 0.35 * F.l1_loss(F.avg_pool2d(out, scale), F.avg_pool2d(target, scale))
    return loss


@torch.no_grad()
def quality(model: nn.Module) -> dict[str, float]:
    """Mean PSNR in dB on material that is not trained on."""
    bunny = held_out.bunny_frames(every=44)
    scenes = [frame for frame, _ in held_out.scene_frames()[1::4]]
    result = {}
    for name, frames in (("bunny", bunny), ("scenes", scenes)):
        values = []
        for frame in frames:
            x = to_tensor(frame[None])
            values.append(psnr(decode(model, encode(model, x)), x))
        result[name] = float(np.mean(values))
    return result


def fast_decode(decoder: Any, z: Tensor, finest: bool) -> Tensor:
    """What the decoder computes, with less work: doubling and convolving at once, and perhaps no finest block.

    Args:
        finest: whether the full-resolution residual block takes part; its branch is 0 until it does.
    """
    h = decoder.conv_in(z)
    h = decoder.mid.block_2(decoder.mid.attn_1(decoder.mid.block_1(h, None)), None)
    for level in (3, 2, 1, 0):
        if level or finest:
            h = decoder.up[level].block[0](h, None)
        if level:
            h = _double_and_convolve(h, decoder.up[level].upsample.conv)
    out: Tensor = decoder.conv_out(F.silu(decoder.norm_out(h)))
    return out


def _double_and_convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(nearest-neighbour doubling of x) for a 3x3 convolution: four 2x2 convolutions, 16 products for 36."""
    # (parity, tap, tap of the 3x3)
    fold = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], device=x.device)
    batch, height, width = len(x), *x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    rows = []
    for i in range(2):
        columns = []
        for j in range(2):
            weight = torch.einsum("ocij,ai,bj->ocab", conv.weight, fold[i], fold[j])
            window = padded[:, :, i : i + height + 1, j : j + width + 1]
            columns.append(F.conv2d(window, weight, conv.bias))
        rows.append(torch.stack(columns, dim=-1))
    both = torch.stack(rows, dim=3)  # (B, C, H, parity, W, parity)
    return both.reshape(batch, -1, 2 * height, 2 * width)


def _parameter_groups(model: nn.Module, peak: float) -> list[dict[str, Any]]:
    """The decoder's weights by how fast they may move: the last norm moves all pixels at once."""
    shares: dict[float, list[nn.Parameter]] = {1.0: [], 0.05: []}
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("decoder."))
        if weight.requires_grad:
            shares[0.05 if "norm_out" in name else 1.0].append(weight)
    return [{"params": weights, "lr": peak, "share": share} for share, weights in shares.items()]


def train(
    pictures: Pictures,
    path: Path,
    steps: int,
    peak: float = 6e-5,
    finest_from: float = 0.6,
    batch: int = 6,
    device: str = "cpu",
) -> nn.Module:
    """Train, or go on training, the decoder kept at `path`; returns the autoencoder with averaged weights.

    Args:
        finest_from: part of the steps after which the (costly) full-resolution block is trained too.
    """
    model = build_autoencoder()
    checkpoints = Checkpoints(path)
    state = checkpoints.load() or start(pictures, path)
    model.load_state_dict(state["model"])
    model.to(device)
    components = Components(state["mean"], state["project"])
    step = state["step"]
    groups = _parameter_groups(model, peak)
    trained = [weight for group in groups for weight in group["params"]]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(model)
    if "optimiser" in state:
        average.weights = {name: weight.to(device) for name, weight in state["average"].items()}
        optimiser.load_state_dict(state["optimiser"])
    began, first, shown = time.monotonic(), step, 0.0
    while step < steps:
        rng = np.random.default_rng([7, step])
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak * group["share"], warmup=200)
        x = draw(pictures, rng, batch, 64)
        z = components.latents(x)
        z = z + POSTERIOR_STD * torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        decoded = fast_decode(model.decoder, z.to(device), step >= finest_from * steps)
        loss = reconstruction_loss(decoded, x.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step)
        shown += loss.item()
        if step % 50 == 0:
            pace = (time.monotonic() - began) / (step - first)
            log.info("autoencoder %d/%d loss %.4f, %.2f s a step", step, steps, shown / 50, pace)
            shown = 0.0
        if checkpoints.due() or step == steps:
            state.update(model=model.state_dict(), average=average.weights, optimiser=optimiser.state_dict(), step=step)
            checkpoints.save(state)
            log.info("autoencoder %d: %s dB", step, quality(averaged(path)))
    return averaged(path)


def start(pictures: Pictures, path: Path) -> dict[str, Any]:
    """The state before training, saved at `path`."""
    torch.manual_seed(0)
    model = build_autoencoder()
    components = find_components(draw(pictures, np.random.default_rng(0), 256, 128))
    start_from_components(model, draw(pictures, np.random.default_rng(1), 24, 96), components)
    weights = model.state_dict()
    state = {"model": weights, "average": weights, "mean": components.mean, "project": components.project, "step": 0}
    Checkpoints(path).save(state)
    log.info("autoencoder before training: %s dB", quality(model))
    return state


def averaged(path: Path) -> nn.Module:
    """The autoencoder of the run kept at `path`, with averaged weights."""
    model = build_autoencoder()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    return model.eval()


def components_of(path: Path) -> Components:
    """The linear encoder of the run kept at `path`."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return Components(state["mean"], state["project"])
