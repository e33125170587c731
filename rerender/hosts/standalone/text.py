"""Prompts to conditioning, as the webui does it: chunks through CLIP, then the weights of the words."""

from __future__ import annotations

import logging
from collections.abc import Hashable

import torch

from rerender.hosts.standalone.model import Model
from rerender.hosts.standalone.precision import autocast
from rerender.hosts.standalone.prompt import Chunk, chunk_prompt
from rerender.hosts.standalone.tokenizer import ClipTokenizer, clip_tokenizer, tokenizer_from_folder

logger = logging.getLogger(__name__)

_OPEN_CLIP_PADDING = 0
_CACHED = 32


def apply_weights(z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Scale each token's vector by its weight and bring the mean over all values back to what it was.

    Args:
        z: (B, T, C); weights: (B, T).
    """
    if bool((weights == 1).all()):
        return z
    weighted = z * weights.unsqueeze(-1).to(z.dtype)
    before, after = z.float().mean(), weighted.float().mean()
    # A text encoder whose last norm has no bias gives a mean of zero up to rounding: nothing to restore then.
    if float(after.abs()) <= 1e-6 * float(weighted.float().abs().mean()):
        logger.warning("the text encoder's mean is zero: the weights of words are applied without restoring it")
        return weighted
    return weighted * (before / after).to(z.dtype)


class TextConditioner:
    """Encodes prompts with a model's text encoder and remembers the last few results."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache: dict[tuple[object, ...], torch.Tensor] = {}
        self._tokenizer: ClipTokenizer | None = None

    @property
    def tokenizer(self) -> ClipTokenizer:
        """The tokeniser that belongs to the model."""
        if self._tokenizer is None:
            config = self._model.config
            if config.tokenizer is not None:
                self._tokenizer = tokenizer_from_folder(config.tokenizer)
            else:
                self._tokenizer = clip_tokenizer()
        return self._tokenizer

    def encode(self, prompt: str, clip_skip: int = 1, loras: Hashable = ()) -> torch.Tensor:
        """Conditioning of a prompt without tags, (1, 77·chunks, C).

        Args:
            clip_skip: 1 uses all layers of CLIP, 2 leaves out the last one, and so on. SD2 has its own fixed choice.
            loras: names the weights that are in the text encoder at the moment.
        """
        key = (prompt, clip_skip, loras)
        if key not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            chunks = self.chunks(prompt)
            self._cache[key] = torch.cat([self._encode_chunk(chunk, clip_skip) for chunk in chunks], dim=1)
        return self._cache[key]

    def chunks(self, prompt: str) -> list[Chunk]:
        """The prompt's chunks of 77 tokens."""
        tokenizer = self.tokenizer
        return chunk_prompt(prompt, tokenizer.encode, start=tokenizer.start, end=tokenizer.end, comma=tokenizer.comma)

    @torch.no_grad()
    def _encode_chunk(self, chunk: Chunk, clip_skip: int) -> torch.Tensor:
        model = self._model
        tokens = torch.tensor([chunk.tokens], device=model.device)
        weights = torch.tensor([chunk.weights], device=model.device)
        with autocast(model.device, model.dtype):
            if model.config.text == "open_clip":
                z = model.text(self._pad(tokens), skip=int(model.config.penultimate))
            else:
                z = model.text(tokens, skip=min(clip_skip, model.config.clip["num_hidden_layers"]) - 1)
        return apply_weights(z, weights)

    def _pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """OpenCLIP fills up with zeros after the first end token."""
        ends = tokens == self.tokenizer.end
        return torch.where(ends.cumsum(1) - ends.int() > 0, _OPEN_CLIP_PADDING, tokens)
