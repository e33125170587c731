"""Run ldm's attention through torch's fused scaled-dot-product kernel, on the modules of one model only."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


def _cross_attention(self: Any, x: torch.Tensor, context: torch.Tensor | None = None, mask: Any = None) -> torch.Tensor:
    """What ldm's CrossAttention.forward computes; x: (B, N, C), context: (B, M, C')."""
    context = x if context is None else context

    def heads(t: torch.Tensor) -> torch.Tensor:
        return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    if mask is not None:
        mask = mask.flatten(1)[:, None, None, :]
    out = scaled_dot_product_attention(
        heads(self.to_q(x)), heads(self.to_k(context)), heads(self.to_v(context)), attn_mask=mask
    )
    return self.to_out(out.transpose(1, 2).flatten(2))


def _vae_attention(self: Any, x: torch.Tensor) -> torch.Tensor:
    """What ldm's AttnBlock.forward computes; x: (B, C, H, W), one head over all pixels."""
    h = self.norm(x)
    q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
    out = scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(h.shape)
    return x + self.proj_out(out)


_FORWARDS: dict[str, Callable[..., torch.Tensor]] = {"CrossAttention": _cross_attention, "AttnBlock": _vae_attention}


def use_sdpa(model: nn.Module) -> None:
    """Give every attention module inside `model` the fused forward; a second call changes nothing."""
    for module in model.modules():
        forward = _FORWARDS.get(type(module).__name__)
        if forward is not None:
            module.forward = types.MethodType(forward, module)


def use_original(model: nn.Module) -> None:
    """Undo `use_sdpa`: each module runs the forward of its class again."""
    for module in model.modules():
        if type(module).__name__ in _FORWARDS:
            module.__dict__.pop("forward", None)


@contextmanager
def original_attention(model: nn.Module) -> Iterator[None]:
    """ldm's own attention for the time of a `with` block."""
    use_original(model)
    try:
        yield
    finally:
        use_sdpa(model)
