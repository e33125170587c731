"""SD1's text encoder: CLIP's text transformer in exactly the layout of its checkpoint keys (`text_model.…`).

Our own module, because the layout that transformers gives its CLIPTextModel changes with its version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

Activation = Callable[[torch.Tensor], torch.Tensor]


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Activation] = {"quick_gelu": _quick_gelu, "gelu": gelu}


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class _Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, eps: float, activation: Activation) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = _Mlp(width, inner, activation)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipText(nn.Module):
    """Token ids (B, T) → hidden states (B, T, hidden_size), after the final layer norm.

    Args:
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, vocab_size, max_position_embeddings,
        hidden_act, layer_norm_eps: as in transformers' CLIPTextConfig.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        vocab_size: int = 49408,
        max_position_embeddings: int = 77,
        hidden_act: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        layers = [
            _Layer(hidden_size, intermediate_size, num_attention_heads, layer_norm_eps, ACTIVATIONS[hidden_act])
            for _ in range(num_hidden_layers)
        ]
        text: Any = nn.Module()
        text.embeddings = nn.Module()
        text.embeddings.token_embedding = nn.Embedding(vocab_size, hidden_size)
        text.embeddings.position_embedding = nn.Embedding(max_position_embeddings, hidden_size)
        text.encoder = nn.Module()
        text.encoder.layers = nn.ModuleList(layers)
        text.final_layer_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.text_model = text

    def forward(self, tokens: torch.Tensor, skip: int = 0) -> torch.Tensor:
        """Encode, leaving out the last `skip` layers."""
        text: Any = self.text_model
        x = text.embeddings.token_embedding(tokens)
        x = x + text.embeddings.position_embedding.weight[: tokens.shape[1]]
        for layer in text.encoder.layers[: len(text.encoder.layers) - skip]:
            x = layer(x)
        return text.final_layer_norm(x)
