"""The self-attention layers of a U-Net's decoder, found by class name, so that no model code is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from rerender.errors import UserError

ATTENTION_CLASSES = frozenset({"CrossAttention", "MemoryEfficientCrossAttention"})

Which = Literal["all", "loose"]


@dataclass(frozen=True)
class AttentionLayer:
    """One attn1 module of the decoder.

    Attributes:
        number: position among all of the decoder's attn1 modules, from 0, innermost first.
        scale: its picture is `scale` times smaller than the latent.
        width: values a token.
    """

    number: int
    module: torch.nn.Module
    scale: int
    width: int

    def tokens(self, height: int, width: int) -> int:
        """Number of tokens for a latent of height × width cells."""
        return -(-height // self.scale) * -(-width // self.scale)


def is_attention(module: torch.nn.Module) -> bool:
    """Whether any class in the module's ancestry is named like an attention module of `ldm` or `sgm`."""
    return any(cls.__name__ in ATTENTION_CLASSES for cls in type(module).__mro__)


def decoder_layers(unet: torch.nn.Module, which: Which = "all") -> list[AttentionLayer]:
    """The attn1 modules of `unet.output_blocks`, in the order they run.

    Args:
        which: "loose" leaves out those of the smallest picture (1280 channels in SD1.5), if there are others.

    Raises:
        UserError: there are none; the model is of an architecture the method does not know.
    """
    layers: list[AttentionLayer] = []
    scale = 2 ** sum(_has(block, "Downsample") for block in getattr(unet, "input_blocks", ()))
    for block in getattr(unet, "output_blocks", ()):
        for name, module in block.named_modules():
            if name.rpartition(".")[2] == "attn1" and is_attention(module):
                layers.append(AttentionLayer(len(layers), module, scale, int(module.to_q.in_features)))
        if _has(block, "Upsample"):
            scale //= 2
    if not layers:
        raise UserError(
            f"The model ({type(unet).__name__}) has no self-attention layers of the kind that is needed.",
            hint="Stable Diffusion 1.x, 2.x and SDXL have them.",
        )
    innermost = max(layer.scale for layer in layers)
    outer = [layer for layer in layers if layer.scale < innermost]
    return outer if which == "loose" and outer else layers


def _has(block: torch.nn.Module, class_name: str) -> bool:
    return any(cls.__name__ == class_name for module in block.modules() for cls in type(module).__mro__)
