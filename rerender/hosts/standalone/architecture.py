"""Recognise what a weights file is, from the names and shapes of its tensors alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rerender.errors import UserError
from rerender.hosts.standalone.config import ModelConfig, config_from_yaml, sd1_config, sd2_config
from rerender.hosts.standalone.weights import Weights

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model."

_FIRST_CONV = UNET + "input_blocks.0.0.weight"
_INPUT_KINDS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-to-image model"}
_CONTEXT = ".attn2.to_k.weight"

# What a file is if one of its keys contains the text. Order matters: an SDXL LoRA is a LoRA first.
_FOREIGN: tuple[tuple[str, str], ...] = (
    ("lora_unet_", "a LoRA file"),
    ("lora_te", "a LoRA file"),
    (".lora_", "a LoRA file"),
    ("control_model.", "a ControlNet file"),
    ("controlnet_", "a ControlNet file"),
    ("zero_convs.", "a ControlNet file"),
    ("double_blocks.", "a Flux model"),
    ("joint_blocks.", "an SD3 model"),
    (UNET + "x_embedder.proj.weight", "an SD3 model"),
    ("conditioner.embedders.1.", "an SDXL model"),
    ("conditioner.embedders.0.model.ln_final", "an SDXL refiner"),
    ("embedder.model.ln_final", "an unCLIP model"),
    ("label_emb.", "an SDXL model"),
    ("cond_stage_model.roberta.", "an AltDiffusion model"),
    ("depth_model.", "a depth-to-image model"),
    ("down_blocks.", "a model in the diffusers layout"),
    ("string_to_param", "a textual inversion embedding"),
    ("emb_params", "a textual inversion embedding"),
)


def foreign_kind(weights: Weights) -> str | None:
    """What the file is, in words, where it is something other than an SD1/SD2 checkpoint; None where it is not."""
    for text, kind in _FOREIGN:
        if any(text in key for key in weights):
            return kind
    has_unet = any(key.startswith(UNET) for key in weights)
    if not has_unet and any(key.removeprefix(VAE).startswith(("decoder.", "encoder.")) for key in weights):
        return "a VAE file"
    if not has_unet and any(key.startswith("text_model.") for key in weights):
        return "a text encoder"
    shape = weights.shapes.get(_FIRST_CONV)
    return _INPUT_KINDS.get(shape[1]) if shape and len(shape) == 4 else None


def find_config(weights: Weights) -> ModelConfig:
    """The configuration of a checkpoint: its same-stem .yaml where there is one, else recognised from shapes.

    Raises:
        UserError: the file is no SD1/SD2 checkpoint; says what it is instead.
    """
    kind = foreign_kind(weights)
    if kind is not None:
        raise _refusal(weights.path, kind)
    if not any(key.startswith(UNET) for key in weights):
        raise UserError(
            f"{weights.path} is not a complete checkpoint: it holds no U-Net ({UNET}…).",
            hint="A checkpoint in the A1111 layout (SD1.x or SD2.x) is needed.",
        )
    yaml = weights.path.with_suffix(".yaml")
    if yaml.is_file():
        return config_from_yaml(yaml)
    return _config_from_shapes(weights)


def _refusal(path: Path, kind: str) -> UserError:
    hints = {
        "a LoRA file": 'Put it into the LoRA folder and name it in the prompt: "<lora:name:1>".',
        "a VAE file": "Give it as the VAE (--vae), and a full checkpoint as the checkpoint.",
    }
    return UserError(
        f"{path} is {kind}, not a Stable Diffusion 1.x or 2.x checkpoint.",
        hint=hints.get(kind, "A checkpoint in the A1111 layout (SD1.x or SD2.x, 4 input channels) is needed."),
    )


def _config_from_shapes(weights: Weights) -> ModelConfig:
    widths = {shape[1] for key, shape in weights.shapes.items() if key.startswith(UNET) and key.endswith(_CONTEXT)}
    channels = weights.shapes.get(_FIRST_CONV, (0,))[0]
    if channels == 320 and widths == {768}:
        return sd1_config()
    if channels == 320 and widths == {1024}:
        # Both kinds of SD2 have the same shapes; the loaded U-Net tells them apart (see `model.predicts_v`).
        return replace(sd2_config("eps"), detect_v=True)
    raise UserError(
        f"{weights.path}: {channels} channels with a text width of {sorted(widths)} are neither SD1 nor SD2.",
        hint=f"A model of another size needs its configuration beside it: {weights.path.with_suffix('.yaml').name}.",
    )
