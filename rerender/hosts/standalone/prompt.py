r"""The webui's prompt language: emphasis, BREAK, chunks of 75 tokens, and tags of extra networks.

    (a)         weight 1.1          (a:1.4)  weight 1.4
    [a]         weight 1/1.1        \( \) \[ \] \\  the characters themselves
    BREAK       the next words start a new chunk of 75 tokens
    <lora:name:0.8>                 taken out of the text and listed

Prompt editing ([a:b:0.5]) and AND are not carried out: they are read as plain text, with a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

CHUNK = 75
_BACKTRACK = 20  # how far before a chunk's end a comma may lie for the words after it to move to the next chunk
_ROUND = 1.1
_SQUARE = 1 / 1.1

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_EXTRA = re.compile(r"<(\w+):([^>]+)>")
_EDITING = re.compile(r"\[[^\[\]]*:\s*\d*\.?\d+\s*\]|\[[^\[\]]*\|[^\[\]]*\]")
_AND = re.compile(r"\bAND\b")


@dataclass
class Piece:
    """A stretch of a prompt with one weight; `text` None stands for BREAK."""

    text: str | None
    weight: float = 1.0


@dataclass(frozen=True)
class Chunk:
    """77 token ids (start, 75, end) and the weight of each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class LoraTag:
    """`<lora:name:unet[:text]>`: a file's name and its weights for the U-Net and for the text encoder."""

    name: str
    unet: float
    text: float


def take_out_tags(prompt: str) -> tuple[str, list[LoraTag]]:
    """Split a prompt into its text and the LoRA files it names. Tags of other kinds are dropped with a warning."""
    tags: list[LoraTag] = []

    def take(match: re.Match[str]) -> str:
        if match[1].lower() in ("lora", "lyco"):
            tags.append(_lora_tag(match[2]))
        else:
            logger.warning("%s in the prompt is not known here and was left out", match[0])
        return ""

    return _EXTRA.sub(take, prompt), tags


def _lora_tag(arguments: str) -> LoraTag:
    name, *rest = arguments.split(":")
    positional = [part for part in rest if "=" not in part]
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    try:
        text = float(named.get("te", positional[0] if positional else 1.0))
        unet = float(named.get("unet", positional[1] if len(positional) > 1 else text))
    except ValueError:
        logger.warning("<lora:%s>: the weight is not a number; 1 is used", arguments)
        text = unet = 1.0
    return LoraTag(name, unet=unet, text=text)


def parse_emphasis(prompt: str) -> list[Piece]:
    """Split a prompt at its brackets and give each stretch its weight.

    An unclosed bracket reaches to the end; a closing one without an opening one is text. Neighbours of equal weight
    are joined, because tokens may span them.
    """
    if _EDITING.search(prompt) or _AND.search(prompt):
        logger.warning("prompt editing ([a:b:0.5], [a|b]) and AND are not carried out here: read as plain text")
    pieces: list[Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, weight: float) -> None:
        for piece in pieces[opened[bracket].pop() :]:
            piece.weight *= weight

    for match in _TOKEN.finditer(prompt):
        text, number = match[0], match[1]
        if text[0] == "\\":
            pieces.append(Piece(text[1:]))
        elif text in opened:
            opened[text].append(len(pieces))
        elif number is not None and opened["("] and _is_number(number):
            close("(", float(number))
        elif text == ")" and opened["("]:
            close("(", _ROUND)
        elif text == "]" and opened["["]:
            close("[", _SQUARE)
        else:
            pieces += _split_breaks(text)
    for bracket, weight in (("(", _ROUND), ("[", _SQUARE)):
        while opened[bracket]:
            close(bracket, weight)
    return _joined(pieces)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split_breaks(text: str) -> list[Piece]:
    pieces: list[Piece] = []
    for index, part in enumerate(_BREAK.split(text)):
        if index:
            pieces.append(Piece(None))
        pieces.append(Piece(part))
    return pieces


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and last.text is not None and piece.text is not None and last.weight == piece.weight:
            last.text += piece.text
        else:
            joined.append(piece)
    return joined or [Piece("")]


class _Chunker:
    """Fills chunks of 75 tokens one after the other."""

    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end
        self._tokens: list[int] = []
        self._weights: list[float] = []
        self._after_comma: int | None = None
        self.chunks: list[Chunk] = []

    def add(self, token: int, weight: float, comma: int | None) -> None:
        if token == comma:
            self._after_comma = len(self._tokens) + 1
        elif self._full and self._after_comma and len(self._tokens) - (self._after_comma - 1) <= _BACKTRACK:
            self._finish_at(self._after_comma)
        if self._full:
            self.finish()
        self._tokens.append(token)
        self._weights.append(weight)

    @property
    def _full(self) -> bool:
        return len(self._tokens) == CHUNK

    @property
    def empty(self) -> bool:
        return not self._tokens

    def _finish_at(self, position: int) -> None:
        tokens, weights = self._tokens[position:], self._weights[position:]
        del self._tokens[position:], self._weights[position:]
        self.finish()
        self._tokens, self._weights = tokens, weights

    def finish(self) -> None:
        padding = CHUNK - len(self._tokens)
        tokens = (self._start, *self._tokens, *[self._end] * padding, self._end)
        weights = (1.0, *self._weights, *[1.0] * padding, 1.0)
        self.chunks.append(Chunk(tokens, weights))
        self._tokens, self._weights, self._after_comma = [], [], None


def chunk_prompt(
    prompt: str, encode: Callable[[str], list[int]], *, start: int, end: int, comma: int | None
) -> list[Chunk]:
    """Turn a prompt (without tags) into at least one chunk of 77 tokens.

    Args:
        encode: a text's token ids; start, end, comma: the ids of those tokens.
    """
    chunker = _Chunker(start, end)
    for piece in parse_emphasis(prompt):
        if piece.text is None:
            chunker.finish()
            continue
        for token in encode(piece.text):
            chunker.add(token, piece.weight, comma)
    if not chunker.empty or not chunker.chunks:
        chunker.finish()
    return chunker.chunks
