"""Cross-frame attention: keys and values of the decoder's self-attention come from reference frames (section 4.1).

A pre-hook on each attn1 module replaces its `context`; the module itself, whichever attention kernel it runs, is left
as it is. The same hook records what a frame would have used, for the frames that refer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from rerender.diffusion.bank import FeatureSlot
from rerender.diffusion.checkerboard import Checkerboard
from rerender.diffusion.layers import AttentionLayer
from rerender.diffusion.rows import RowCursor, follow_rows
from rerender.errors import RerenderError
from rerender.host import Sampling


@contextmanager
def cross_frame_attention(
    sampling: Sampling,
    layers: Sequence[AttentionLayer],
    *,
    references: Sequence[FeatureSlot] = (),
    record: FeatureSlot | None = None,
    recorded_calls: Callable[[int], bool] = lambda call: True,
    steps: frozenset[int],
    own_tokens: bool = False,
    checkerboard: bool = False,
    record_all: bool = True,
    replayed: int = 0,
) -> Iterator[None]:
    """Hook the attention `layers` for the time of a `with` block.

    Args:
        references: where keys and values come from, one after the other; none leaves the frame as it is.
        record: gets the frame's own attention inputs; may be one of `references`, whose features are then replaced
            one by one, right after their last use.
        recorded_calls: which model calls are recorded, among those in `steps`.
        steps: the steps in which anything happens.
        own_tokens: append the frame's own tokens to those of the references.
        checkerboard: where there are two references, they give every other token each in the finest layers, the first
            those of even cells, the second those of odd ones (`diffusion/checkerboard.py`).
        record_all: whether all tokens are recorded, or in the finest layers only what a second reference gives.
        replayed: the first model calls, in which the U-Net's answers are given again without running it.

    Raises:
        RerenderError: the U-Net that ran was not the one with the hooks.
    """
    with follow_rows(sampling.denoiser, sampling.unet) as cursor:
        active = [call.step in steps for call in sampling.calls]
        given = Checkerboard(layers if checkerboard and len(references) == 2 else [])
        kept = Checkerboard([] if record_all else layers)
        hook = _AttentionHook(cursor, references, record, recorded_calls, active, own_tokens, given, kept)
        handles = [
            layer.module.register_forward_pre_hook(hook.for_layer(layer.number), with_kwargs=True) for layer in layers
        ]
        handles.append(sampling.denoiser.register_forward_pre_hook(hook.prefetch))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if hook.calls == 0 and any(active[replayed:]) and cursor.index >= 0 and cursor.start:
            raise RerenderError(
                "The attention hooks were never reached.", hint="Was the checkpoint changed while a run was going on?"
            )


class _AttentionHook:
    def __init__(
        self,
        cursor: RowCursor,
        references: Sequence[FeatureSlot],
        record: FeatureSlot | None,
        recorded_calls: Callable[[int], bool],
        active: Sequence[bool],
        own_tokens: bool,
        given: Checkerboard,
        kept: Checkerboard,
    ) -> None:
        self.cursor, self.references, self.record = cursor, references, record
        self.recorded_calls, self.active, self.own_tokens = recorded_calls, active, own_tokens
        self.given, self.kept = given, kept
        self.calls = 0

    def for_layer(self, layer: int) -> Callable[..., Any]:
        return lambda module, args, kwargs: self.replace(layer, args, kwargs)

    def prefetch(self, *_: Any) -> None:
        following = self.cursor.index + 1
        for call in (following - 1, following):
            if 0 <= call < len(self.active) and self.active[call]:
                for reference in self.references:
                    reference.prefetch(call)

    def replace(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        base = base_context(args, kwargs)
        call = self.cursor.index
        # Another number of rows means a call that is no part of the sampling proper (ControlNet's reference_only).
        if base.shape[0] != self.cursor.rows or not self.active[call]:
            return None
        self.calls += 1
        context = self.gather(call, layer, base) if self.references else None
        if self.record is not None and self.recorded_calls(call):
            cells = self.kept.choose(layer, base.shape[1], self.cursor.size, 1, base.device)
            self.record.store(call, layer, self.cursor.start, base if cells is None else base[:, cells])
        return None if context is None else with_context(args, kwargs, context)

    def gather(self, call: int, layer: int, base: torch.Tensor) -> torch.Tensor:
        """The references' tokens for the rows of `base`, a new tensor (rows, tokens, width)."""
        start = self.cursor.start
        counts = [reference.tokens(call, layer, start) for reference in self.references]
        chosen = [
            self.given.choose(layer, count, self.cursor.size, parity, base.device)
            for parity, count in enumerate(counts)
        ]
        counts = [count if cells is None else len(cells) for count, cells in zip(counts, chosen, strict=True)]
        own = base.shape[1] if self.own_tokens else 0
        context = base.new_empty(base.shape[0], sum(counts) + own, base.shape[2])
        parts = context.split([*counts, own], dim=1)
        for reference, part, cells in zip(self.references, parts, chosen, strict=False):
            reference.load(call, layer, start, part, cells)
        if own:
            parts[-1].copy_(base)
        return context


def base_context(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What the attention module would take keys and values from: `context` by keyword, by position, or x."""
    by_position = args[1] if len(args) > 1 else None
    context = kwargs.get("context", by_position)
    if context is not None:
        return context
    return args[0] if args else kwargs["x"]


def with_context(
    args: tuple[Any, ...], kwargs: dict[str, Any], context: torch.Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another context."""
    if "context" in kwargs or len(args) < 2:
        return args, {**kwargs, "context": context}
    return (args[0], context, *args[2:]), kwargs
