"""A LoRA for the demo checkpoint, trained here in seconds for one measurable thing: pictures become redder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from rerender.hosts.standalone import StandaloneHost, load_host

RANK = 4
NAME = "redder"
_STEPS = 8
_SIGMAS = (0.6, 1.5, 4.0)


def redness(picture: np.ndarray) -> float:
    """Mean of red less the mean of blue, in 255ths. picture: uint8 RGB (H, W, 3)."""
    return float(picture[..., 0].mean() - picture[..., 2].mean())


def train_tint_lora(checkpoint: Path, picture: np.ndarray, prompt: str, path: Path) -> None:
    """Write a kohya-format LoRA of rank 4 on the decoder's attention outputs, by gradient ascent on redness.

    Args:
        picture: uint8 RGB (H, W, 3), what is noised and denoised in training.
    """
    host = load_host(checkpoint, device="cpu")
    pairs = _new_pairs(host.unet)
    generator = torch.Generator().manual_seed(0)
    x0 = host.encode(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    context = host._text.encode(prompt)
    optimiser = torch.optim.Adam([matrix for pair in pairs.values() for matrix in pair], lr=1e-2)
    with _added(host.unet, pairs):
        for step in range(_STEPS):
            sigma = _SIGMAS[step % len(_SIGMAS)]
            noisy = x0 + sigma * torch.randn(x0.shape, generator=generator)
            image = _decoded(host, _denoised(host, noisy, sigma, context))
            loss = (image[:, 2] - image[:, 0]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    _save(pairs, path)


def _new_pairs(unet: torch.nn.Module) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """(up (out, r), down (r, in)) by module path; up is zero, so that training starts from the model as it is."""
    generator = torch.Generator().manual_seed(1)
    pairs = {}
    for name, module in unet.named_modules():
        if name.startswith("output_blocks") and name.endswith(("attn1.to_out.0", "attn2.to_out.0")):
            down = torch.randn(RANK, module.in_features, generator=generator) / module.in_features**0.5
            pairs[name] = (torch.nn.Parameter(torch.zeros(module.out_features, RANK)), torch.nn.Parameter(down))
    return pairs


@contextmanager
def _added(unet: torch.nn.Module, pairs: dict[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, (up, down) in pairs.items():
            hook = unet.get_submodule(name).register_forward_hook(
                lambda module, args, output, up=up, down=down: output + args[0] @ down.T @ up.T
            )
            stack.callback(hook.remove)
        yield


def _denoised(host: StandaloneHost, noisy: torch.Tensor, sigma: float, context: torch.Tensor) -> torch.Tensor:
    alphas = host._model.alphas_cumprod
    t = torch.argmin((((1 - alphas) / alphas).sqrt() - sigma).abs())[None]
    return noisy - sigma * host.unet(noisy / (1 + sigma**2) ** 0.5, t, context=context)


def _decoded(host: StandaloneHost, latent: torch.Tensor) -> torch.Tensor:
    z = latent / host._model.config.scale_factor
    return host._model.run_vae(lambda vae, dtype: vae.decode(z))


def _save(pairs: dict[str, Any], path: Path) -> None:
    tensors = {}
    for name, (up, down) in pairs.items():
        stem = "lora_unet_" + name.replace(".", "_")
        tensors[f"{stem}.lora_up.weight"] = up.detach().contiguous()
        tensors[f"{stem}.lora_down.weight"] = down.detach().contiguous()
        tensors[f"{stem}.alpha"] = torch.tensor(float(RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"ss_network_dim": str(RANK), "ss_base_model_version": "sd_1.5"})
