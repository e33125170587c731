"""The model: sizes, its webui configuration, its parts, and the A1111 layout of its weights."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor, nn

from rerender.hosts.standalone.ldm_import import load_ldm

SCALE_FACTOR = 0.18215
"""SD1's scale factor; the autoencoder is made to suit it, so that no program needs another."""

LATENT_STD = 2.0
"""Standard deviation of scaled latents. SD's is 1: small latents need more signal to survive the same noise."""

CLIP_FOLDER = "rerender-demo-clip"

AUTOENCODER: dict[str, Any] = {
    "embed_dim": 4,
    "monitor": "val/rec_loss",
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        # GroupNorm(32) with fewer than three channels a group erases the brightness of a picture.
        "ch": 96,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 0,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "lossconfig": {"target": "torch.nn.Identity"},
}

UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2, 3],
    "num_heads": 4,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 64,
    "use_checkpoint": False,
    "legacy": False,
}

CLIP: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 64,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}


def webui_config() -> dict[str, Any]:
    """The .yaml that lies beside the checkpoint, in the form of SD1's v1-inference.yaml."""
    return {
        "model": {
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": 0.00085,
                "linear_end": 0.012,
                "num_timesteps_cond": 1,
                "log_every_t": 200,
                "timesteps": 1000,
                "first_stage_key": "jpg",
                "cond_stage_key": "txt",
                "image_size": 32,
                "channels": 4,
                "cond_stage_trainable": False,
                "conditioning_key": "crossattn",
                "monitor": "val/loss_simple_ema",
                "scale_factor": SCALE_FACTOR,
                "use_ema": False,
                "unet_config": {
                    "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                    "params": UNET,
                },
                "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": AUTOENCODER},
                "cond_stage_config": {
                    "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                    "params": {"version": CLIP_FOLDER},
                },
            },
        }
    }


def alphas_cumprod() -> Tensor:
    """SD1's noise schedule: (1000,), betas linear in their square roots."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def build_autoencoder() -> nn.Module:
    """An untrained ldm AutoencoderKL."""
    with contextlib.redirect_stdout(io.StringIO()):
        model: nn.Module = load_ldm().autoencoder.AutoencoderKL(**AUTOENCODER)
    return model


def build_unet() -> nn.Module:
    """An untrained ldm UNetModel, with attention by torch's fused kernel."""
    ldm = load_ldm()
    unet: nn.Module = ldm.openaimodel.UNetModel(**UNET)
    for module in unet.modules():
        if type(module) is ldm.attention.CrossAttention:
            module.forward = _FusedAttention(module)
    return unet


class _FusedAttention:
    """What CrossAttention.forward does (without its unused mask), several times faster."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor, context: Tensor | None = None, mask: None = None) -> Tensor:
        m: Any = self.module
        context = x if context is None else context
        batch, heads = x.shape[0], m.heads

        def split(t: Tensor) -> Tensor:
            return t.reshape(batch, t.shape[1], heads, -1).transpose(1, 2)

        q, k, v = split(m.to_q(x)), split(m.to_k(context)), split(m.to_v(context))
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return m.to_out(out.transpose(1, 2).reshape(batch, x.shape[1], -1))


def build_clip() -> nn.Module:
    """An untrained CLIPTextModel whose final norm is not the identity.

    With weight 1 and bias 0 the mean of its output would be exactly 0, the webui's prompt emphasis would divide by
    it, and every picture would be NaN.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    clip: nn.Module = CLIPTextModel(CLIPTextConfig(**CLIP))
    with torch.no_grad():
        final: Any = clip.get_submodule("text_model.final_layer_norm")
        final.weight.normal_(1.0, 0.1)
        final.bias.normal_(0.1, 0.1)
    return clip


PREFIXES = {
    "autoencoder": "first_stage_model.",
    "unet": "model.diffusion_model.",
    "clip": "cond_stage_model.transformer.",
}
"""Where A1111 checkpoints keep each part."""


def checkpoint_weights(parts: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All weights in half precision under the names of an A1111 checkpoint."""
    return {
        PREFIXES[part] + name: tensor.detach().half().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
        if not name.endswith("position_ids")
    }
