"""What is checked with a small checkpoint in SDXL's layout, made and loaded inside the webui."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from modules import paths, sd_models, shared
from safetensors.torch import save_file
from sgm.util import instantiate_from_config

from rerender.hosts.webui.host import WebuiHost
from tests.webui.checks import frames, plain_img2img, request, translate

# The webui knows an SDXL text encoder by this key, and then does not look for the encoder's own weights.
_MARK = "conditioner.embedders.1.model.ln_final.weight"
_TEXT = "conditioner.embedders.0.transformer."


def translate_with_sdxl() -> dict[str, Any]:
    """Three key frames with all constraints on, and without attention; a plain one against img2img's."""
    load_sdxl()
    constrained = translate(count=3, sampler="Euler").astype(int)
    free = translate(count=3, sampler="Euler", attention=False).astype(int)
    plain = plain_img2img(frames(1)[0], "Euler")
    return {
        "is_sdxl": bool(shared.sd_model.is_sdxl),
        "shape": list(constrained.shape),
        "attention changes": float(np.abs(constrained[1:] - free[1:]).mean()),
        "bare is plain": bool(np.array_equal(plain, WebuiHost().render(request(sampler="Euler")).picture)),
    }


def load_sdxl() -> None:
    """Make a checkpoint with random weights and the demo's text encoder, and switch to it."""
    folder = Path(paths.models_path) / "Stable-diffusion"
    demo = yaml.safe_load(Path(shared.sd_model.used_config).read_text())["model"]["params"]
    params = _params(demo["cond_stage_config"]["params"]["version"])
    config = {"model": {"target": "sgm.models.diffusion.DiffusionEngine", "params": params}}
    (folder / "sdxl.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    weights = {
        "model.diffusion_model.": instantiate_from_config(params["network_config"]),
        "first_stage_model.": instantiate_from_config(params["first_stage_config"]),
    }
    tensors = {
        prefix + name: _random(value).contiguous()
        for prefix, module in weights.items()
        for name, value in module.state_dict().items()
    }
    text = shared.sd_model.cond_stage_model.wrapped.transformer.state_dict()
    tensors |= {_TEXT + name.replace(".wrapped", ""): value.clone() for name, value in text.items()}
    save_file(tensors | {_MARK: torch.zeros(1)}, folder / "sdxl.safetensors")
    sd_models.list_models()
    sd_models.reload_model_weights(info=sd_models.get_closet_checkpoint_match("sdxl.safetensors"))


def _random(value: torch.Tensor) -> torch.Tensor:
    """Layers that begin with zeros are perturbed, so that each weight matters."""
    if value.ndim > 1 and not value.any():
        return torch.randn_like(value) * (0.8 / value[0].numel() ** 0.5)
    return value


def _params(text_folder: str) -> dict[str, Any]:
    discretization = "sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization"
    denoiser = {
        "num_idx": 1000,
        "weighting_config": {"target": "sgm.modules.diffusionmodules.denoiser_weighting.EpsWeighting"},
        "scaling_config": {"target": "sgm.modules.diffusionmodules.denoiser_scaling.EpsScaling"},
        "discretization_config": {"target": discretization},
    }
    return {
        "scale_factor": 0.13025,
        "disable_first_stage_autocast": True,
        "denoiser_config": {
            "target": "sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser",
            "params": denoiser,
        },
        "network_config": {
            "target": "sgm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": _unet_params(),
        },
        "conditioner_config": {"target": "sgm.modules.GeneralConditioner", "params": _embedders(text_folder)},
        "first_stage_config": {
            "target": "sgm.models.autoencoder.AutoencoderKLInferenceWrapper",
            "params": _vae_params(),
        },
    }


def _unet_params() -> dict[str, Any]:
    return {
        "adm_in_channels": 96,
        "num_classes": "sequential",
        "use_checkpoint": False,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [4, 2],
        "num_res_blocks": 1,
        "channel_mult": [1, 2, 2],
        "num_head_channels": 16,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "transformer_depth": [1, 1, 2],
        "context_dim": 64,
        "spatial_transformer_attn_type": "softmax",
        "legacy": False,
    }


def _embedders(text_folder: str) -> dict[str, Any]:
    text = {
        "is_trainable": False,
        "input_key": "txt",
        "target": "sgm.modules.encoders.modules.FrozenCLIPEmbedder",
        "params": {"version": text_folder},
    }
    sizes = [
        {
            "is_trainable": False,
            "input_key": key,
            "target": "sgm.modules.encoders.modules.ConcatTimestepEmbedderND",
            "params": {"outdim": 16},
        }
        for key in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
    ]
    return {"emb_models": [text, *sizes]}


def _vae_params() -> dict[str, Any]:
    network = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32}
    depth = {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    return {
        "embed_dim": 4,
        "monitor": "val/rec_loss",
        "ddconfig": {**network, **depth, "attn_type": "vanilla"},
        "lossconfig": {"target": "torch.nn.Identity"},
    }
