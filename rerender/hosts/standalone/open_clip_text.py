"""SD2's text encoder: OpenCLIP's text transformer in exactly the layout of its checkpoint keys."""

from __future__ import annotations

import torch
from torch import nn


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))


class OpenClipText(nn.Module):
    """Token ids (B, 77) → hidden states (B, 77, width), after the final layer norm.

    Args:
        width: size of a token's vector; layers, heads: of the transformer.
        vocab_size: number of tokens; context_length: tokens a chunk.
    """

    def __init__(self, width: int, layers: int, heads: int, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context_length, width))
        self.transformer = _Transformer(width, layers, heads)
        self.ln_final = nn.LayerNorm(width)
        # Not used for conditioning, but part of every SD2 checkpoint.
        self.text_projection = nn.Parameter(torch.zeros(width, width))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: torch.Tensor, skip: int = 0) -> torch.Tensor:
        """Encode, leaving out the last `skip` layers (SD2 was trained with skip = 1)."""
        x = self.token_embedding(tokens) + self.positional_embedding
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        for block in self.transformer.resblocks[: len(self.transformer.resblocks) - skip]:
            x = block(x, mask)
        return self.ln_final(x)
