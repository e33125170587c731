"""The names that LoRA files in the kohya layout use for the layers of ldm's U-Net and of the text encoders.

Kohya's trainer names SD1/SD2 layers by their diffusers path, dots as underscores: `lora_unet_down_blocks_0_attentions_
1_proj_in`. The same layer under ldm's own path, `lora_unet_input_blocks_2_1_proj_in`, is understood too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_RESNET = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "input_blocks.0.0": "conv_in",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding_linear_1",
    "time_embed.2": "time_embedding_linear_2",
}
_OPEN_CLIP = {"attn.out_proj": "self_attn_out_proj", "mlp.c_fc": "mlp_fc1", "mlp.c_proj": "mlp_fc2"}
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Target:
    """A weight that a LoRA changes: a parameter, or a third of OpenCLIP's joint q, k, v weight.

    Attributes:
        rows: the first and last row (exclusive) of the part, None for the whole.
        is_text: whether it belongs to the text encoder.
    """

    parameter: nn.Parameter
    is_text: bool
    rows: tuple[int, int] | None = None

    def part_of(self, values: torch.Tensor) -> torch.Tensor:
        """The target's rows of a tensor in the parameter's shape; a view."""
        return values if self.rows is None else values[slice(*self.rows)]

    @property
    def shape(self) -> torch.Size:
        """Shape of the part."""
        return self.part_of(self.parameter.data).shape


def lora_targets(unet: nn.Module, text: nn.Module) -> dict[str, Target]:
    """Every layer that a LoRA file may name, by name."""
    targets: dict[str, Target] = {}
    for path, layer in _layers(unet):
        target = Target(layer.weight, is_text=False)
        targets["lora_unet_" + path.replace(".", "_")] = target
        name = diffusers_name(path, _blocks_a_level(unet))
        if name is not None:
            targets["lora_unet_" + name.replace(".", "_")] = target
    targets.update(text_targets(text))
    return targets


def _layers(root: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in root.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield path, module


def _blocks_a_level(unet: Any) -> int:
    count = unet.num_res_blocks
    return int(count if isinstance(count, int) else count[0])


def diffusers_name(path: str, num_res_blocks: int) -> str | None:
    """The diffusers path of a layer of ldm's U-Net; None for a layer that has none.

    Args:
        path: e.g. "input_blocks.1.1.proj_in" → "down_blocks.0.attentions.0.proj_in".
        num_res_blocks: residual blocks a level.
    """
    if path in _ENDS:
        return _ENDS[path]
    middle = _MIDDLE.fullmatch(path)
    if middle is not None:
        index, rest = int(middle[1]), middle[2]
        return f"mid_block.attentions.0.{rest}" if index == 1 else _resnet("mid_block", index // 2, rest)
    block = _BLOCK.fullmatch(path)
    if block is None:
        return None
    side, number, part, rest = block[1], int(block[2]), int(block[3]), block[4]
    if side == "input_blocks":
        return _down_name(number, part, rest, num_res_blocks)
    return _up_name(number, part, rest, num_res_blocks)


def _down_name(number: int, part: int, rest: str, num_res_blocks: int) -> str | None:
    level, index = divmod(number - 1, num_res_blocks + 1)
    if rest == "op":
        return f"down_blocks.{level}.downsamplers.0.conv"
    return _block_name(f"down_blocks.{level}", index, part, rest)


def _up_name(number: int, part: int, rest: str, num_res_blocks: int) -> str | None:
    level, index = divmod(number, num_res_blocks + 1)
    if rest == "conv":
        return f"up_blocks.{level}.upsamplers.0.conv"
    return _block_name(f"up_blocks.{level}", index, part, rest)


def _block_name(block: str, index: int, part: int, rest: str) -> str | None:
    return _resnet(block, index, rest) if part == 0 else f"{block}.attentions.{index}.{rest}"


def _resnet(block: str, index: int, rest: str) -> str | None:
    return f"{block}.resnets.{index}.{_RESNET[rest]}" if rest in _RESNET else None


def text_targets(text: Any) -> dict[str, Target]:
    """Every layer of a text encoder that a LoRA file may name, by name."""
    if hasattr(text, "text_model"):
        named = _layers(text)
        return {"lora_te_" + path.replace(".", "_"): Target(layer.weight, is_text=True) for path, layer in named}
    return dict(_open_clip_targets(text))


def _open_clip_targets(text: Any) -> Iterator[tuple[str, Target]]:
    for number, block in enumerate(text.transformer.resblocks):
        prefix = f"lora_te_text_model_encoder_layers_{number}_"
        for path, name in _OPEN_CLIP.items():
            yield prefix + name, Target(block.get_submodule(path).weight, is_text=True)
        joint = block.attn.in_proj_weight
        width = joint.shape[1]
        for index, letter in enumerate("qkv"):
            rows = (index * width, (index + 1) * width)
            yield f"{prefix}self_attn_{letter}_proj", Target(joint, is_text=True, rows=rows)
