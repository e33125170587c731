"""What a checkpoint's U-Net, VAE, text encoder and noise schedule look like: built in, or from a .yaml beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from rerender.errors import UserError

Parameterization = Literal["eps", "v"]
TextKind = Literal["clip", "open_clip"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a model that a checkpoint's weights fit.

    Attributes:
        unet: arguments of ldm's UNetModel.
        vae: arguments of ldm's AutoencoderKL.ddconfig.
        embed_dim: channels of the latent.
        text: "clip" (SD1) or "open_clip" (SD2).
        clip: arguments of `clip_text.ClipText` or `open_clip_text.OpenClipText`.
        tokenizer: folder with vocab.json and merges.txt; None: the vocabulary of OpenAI's CLIP.
        penultimate: whether the text encoder stops one layer early (SD2's training did).
        parameterization: what the U-Net predicts: the noise, or v (Salimans & Ho 2022).
        detect_v: whether only the loaded U-Net can tell which of the two it predicts.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    text: TextKind
    clip: dict[str, Any]
    embed_dim: int = 4
    tokenizer: Path | None = None
    penultimate: bool = False
    parameterization: Parameterization = "eps"
    detect_v: bool = False
    scale_factor: float = 0.18215
    linear_start: float = 0.00085
    linear_end: float = 0.012
    timesteps: int = 1000
    source: str = "built in"

    def alphas_cumprod(self) -> torch.Tensor:
        """The product of 1 - β_t for every training timestep, (timesteps,) float32; β is linear in its square root."""
        betas = np.linspace(self.linear_start**0.5, self.linear_end**0.5, self.timesteps, dtype=np.float64) ** 2
        return torch.tensor(np.cumprod(1.0 - betas), dtype=torch.float32)


_UNET_COMMON: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "legacy": False,
}
_VAE: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
CLIP_VIT_L: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
OPEN_CLIP_VIT_H: dict[str, Any] = {"width": 1024, "layers": 24, "heads": 16, "vocab_size": 49408, "context_length": 77}


def sd1_config() -> ModelConfig:
    """The configuration of every SD1.x checkpoint."""
    unet = {**_UNET_COMMON, "num_heads": 8, "context_dim": 768}
    return ModelConfig(unet=unet, vae=dict(_VAE), text="clip", clip=dict(CLIP_VIT_L), source="SD1")


def sd2_config(parameterization: Parameterization) -> ModelConfig:
    """The configuration of every SD2.x checkpoint; the 768-pixel ones predict v."""
    unet = {**_UNET_COMMON, "num_head_channels": 64, "use_linear_in_transformer": True, "context_dim": 1024}
    return ModelConfig(
        unet=unet,
        vae=dict(_VAE),
        text="open_clip",
        clip=dict(OPEN_CLIP_VIT_H),
        penultimate=True,
        parameterization=parameterization,
        source="SD2-v" if parameterization == "v" else "SD2",
    )


def clip_config_from_folder(folder: Path) -> dict[str, Any]:
    """Arguments of `clip_text.ClipText` from the config.json of a transformers CLIP folder.

    Raises:
        UserError: there is no readable config.json.
    """
    import json

    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no readable config.json of a CLIP text encoder ({error}).") from error
    if isinstance(fields.get("text_config"), Mapping):
        fields = fields["text_config"]
    return {key: fields[key] for key in CLIP_VIT_L if key in fields}


_TARGETS = {
    "model": {"ldm.models.diffusion.ddpm.LatentDiffusion"},
    "unet_config": {"ldm.modules.diffusionmodules.openaimodel.UNetModel"},
    "first_stage_config": {"ldm.models.autoencoder.AutoencoderKL"},
    "cond_stage_config": {
        "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
        "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
    },
}


@dataclass
class _Node:
    """A part of a .yaml with its place in the file, for messages."""

    path: Path
    where: str
    value: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> _Node:
        value = self.value.get(name)
        if not isinstance(value, Mapping):
            raise UserError(f"{self.path}: {self.where}.{name} is missing or not a table.")
        return _Node(self.path, f"{self.where}.{name}", value)

    def instantiated(self, kind: str) -> tuple[str, dict[str, Any]]:
        """The target's name and its parameters; only targets that belong to Stable Diffusion 1 and 2 are accepted."""
        target = str(self.value.get("target"))
        if target not in _TARGETS[kind]:
            raise UserError(
                f"{self.path}: {self.where}.target is {target!r}, which this host does not run.",
                hint=f"Known here: {', '.join(sorted(_TARGETS[kind]))}.",
            )
        return target, dict(self.value.get("params") or {})


def config_from_yaml(path: Path) -> ModelConfig:
    """Read a checkpoint's .yaml in ldm's format.

    `version:` of FrozenCLIPEmbedder may name a folder with config.json and tokenizer files, relative to the .yaml.

    Raises:
        UserError: not a yaml file, a part is missing, or it names a class that is no part of SD1/SD2.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as yaml ({error}).") from error
    root = _Node(path, "", content if isinstance(content, Mapping) else {})
    model = root.part("model")
    params = model.part("params")
    model.instantiated("model")
    _, unet = params.part("unet_config").instantiated("unet_config")
    _, vae = params.part("first_stage_config").instantiated("first_stage_config")
    text_target, text = params.part("cond_stage_config").instantiated("cond_stage_config")
    if not isinstance(vae.get("ddconfig"), Mapping):
        raise UserError(f"{path}: first_stage_config.params.ddconfig is missing.")
    return ModelConfig(
        unet={key: value for key, value in unet.items() if key != "use_checkpoint"},
        vae=dict(vae["ddconfig"]),
        embed_dim=int(vae.get("embed_dim", 4)),
        parameterization=_parameterization(path, params.value),
        scale_factor=float(params.value.get("scale_factor", 0.18215)),
        linear_start=float(params.value.get("linear_start", 0.00085)),
        linear_end=float(params.value.get("linear_end", 0.012)),
        timesteps=int(params.value.get("timesteps", 1000)),
        source=path.name,
        **_text_part(path, text_target, text),
    )


def _parameterization(path: Path, params: Mapping[str, Any]) -> Parameterization:
    value = params.get("parameterization", "eps")
    if value == "v":
        return "v"
    if value == "eps":
        return "eps"
    raise UserError(f"{path}: parameterization is {value!r}; known here: eps, v.")


def _text_part(path: Path, target: str, params: Mapping[str, Any]) -> dict[str, Any]:
    if target.endswith("FrozenOpenCLIPEmbedder"):
        arch = params.get("arch", "ViT-H-14")
        if arch != "ViT-H-14":
            raise UserError(f"{path}: the text encoder {arch!r} is not known here; known: ViT-H-14.")
        layer = params.get("layer", "last")
        return {"text": "open_clip", "clip": dict(OPEN_CLIP_VIT_H), "penultimate": layer == "penultimate"}
    folder = _local_folder(path, params.get("version"))
    if folder is None:
        return {"text": "clip", "clip": dict(CLIP_VIT_L)}
    tokenizer = folder if (folder / "vocab.json").is_file() else None
    return {"text": "clip", "clip": clip_config_from_folder(folder), "tokenizer": tokenizer}


def _local_folder(path: Path, version: object) -> Path | None:
    """The folder that `version:` names, or None for the name of OpenAI's model on a hub."""
    if version is None or str(version) == "openai/clip-vit-large-patch14":
        return None
    folder = path.parent / str(version)
    if folder.is_dir():
        return folder
    raise UserError(
        f"{path}: cond_stage_config.params.version is {str(version)!r}, but there is no such folder.",
        hint=f"Looked for {folder}. Nothing is downloaded here.",
    )
