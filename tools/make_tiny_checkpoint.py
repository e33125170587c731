"""Make a tiny checkpoint in the SD1 layout with random weights: for tests, and for trying the machinery.

    python tools/make_tiny_checkpoint.py FOLDER [--name tiny] [--seed 0] [--v-prediction] [--half]

It writes FOLDER/NAME.safetensors, NAME.yaml and the text encoder's folder NAME-clip with the tokeniser files. The
weights are random, so the pictures mean nothing; but every part runs, and each weight matters: layers that Stable
Diffusion initialises with zeros are perturbed, and the text encoder's norms have a bias, without which the mean of its
output would be zero and the webui's emphasis would divide by it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from rerender.hosts.standalone.config import ModelConfig
from rerender.hosts.standalone.model import TEXT_PREFIX, UNET, VAE, build_text, build_unet, build_vae
from rerender.hosts.standalone.tokenizer import find_vocabulary, read_vocabulary

UNET_PARAMS: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_heads": 2,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 32,
    "legacy": False,
}
VAE_PARAMS: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 0,
    "attn_resolutions": [],
    "dropout": 0.0,
}
CLIP_PARAMS: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}


def tiny_config(*, v_prediction: bool = False, unet: Mapping[str, Any] | None = None) -> ModelConfig:
    """The configuration of the tiny model; `unet` is laid over the U-Net's parameters."""
    config = ModelConfig(
        unet={**UNET_PARAMS, **(unet or {})}, vae=dict(VAE_PARAMS), text="clip", clip=dict(CLIP_PARAMS)
    )
    return replace(config, parameterization="v" if v_prediction else "eps")


def _random(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random values of a size that keeps activations in range; norms stay near 1 with a bias that is not 0."""
    noise = torch.randn(like.shape, generator=generator)
    if like.ndim <= 1:
        is_scale = name.endswith("weight")
        return 1 + 0.1 * noise if is_scale else 0.1 * noise + (0.05 if "norm" in name else 0.0)
    if "embedding" in name:
        return 0.3 * noise
    fan_in = like[0].numel()
    return noise * (0.8 / fan_in**0.5)


def tiny_weights(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights for every tensor of a model, under the keys of an A1111 checkpoint."""
    generator = torch.Generator().manual_seed(seed)
    parts = ((UNET, build_unet(config)), (VAE, build_vae(config)), (TEXT_PREFIX[config.text], build_text(config)))
    return {
        prefix + name: _random(name, tensor, generator)
        for prefix, module in parts
        for name, tensor in module.state_dict().items()
    }


def yaml_content(config: ModelConfig, text_folder: str) -> dict[str, Any]:
    """The configuration in ldm's yaml format, as the webui reads it too."""
    first_stage = {
        "target": "ldm.models.autoencoder.AutoencoderKL",
        "params": {
            "embed_dim": config.embed_dim,
            "monitor": "val/rec_loss",
            "ddconfig": dict(config.vae),
            "lossconfig": {"target": "torch.nn.Identity"},
        },
    }
    params: dict[str, Any] = {
        "linear_start": config.linear_start,
        "linear_end": config.linear_end,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": config.timesteps,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 32,
        "channels": 4,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": config.scale_factor,
        "use_ema": False,
        "parameterization": config.parameterization,
        "unet_config": {
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": {**config.unet, "use_checkpoint": False},
        },
        "first_stage_config": first_stage,
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": text_folder},
        },
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_text_folder(folder: Path, clip: dict[str, Any]) -> None:
    """config.json and the tokeniser files of a transformers CLIP text encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    merges, ids = read_vocabulary(find_vocabulary())
    config = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **clip}
    config |= {"projection_dim": clip["hidden_size"], "bos_token_id": 49406, "eos_token_id": 49407}
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    tokenizer = {**special, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "model_max_length": 77}
    contents = {
        "config.json": json.dumps(config, indent=1),
        "vocab.json": json.dumps(ids, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "special_tokens_map.json": json.dumps(special),
        "tokenizer_config.json": json.dumps(tokenizer),
    }
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")


def make_tiny_checkpoint(
    folder: Path,
    *,
    name: str = "tiny",
    seed: int = 0,
    v_prediction: bool = False,
    half: bool = False,
    unet: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint and what belongs to it; returns the path of the .safetensors file.

    Args:
        v_prediction, unet: see `tiny_config`.
        half: store float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(v_prediction=v_prediction, unet=unet)
    weights = tiny_weights(config, seed)
    if half:
        weights = {key: value.half() for key, value in weights.items()}
    path = folder / f"{name}.safetensors"
    save_file(weights, path)
    content = yaml_content(config, f"{name}-clip")
    path.with_suffix(".yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    write_text_folder(folder / f"{name}-clip", config.clip)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--v-prediction", action="store_true")
    parser.add_argument("--half", action="store_true", help="store float16")
    options = parser.parse_args()
    print(make_tiny_checkpoint(**vars(options)))


if __name__ == "__main__":
    main()
