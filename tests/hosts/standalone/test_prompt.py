"""The webui's prompt language, against weights worked out by hand, and the tokeniser against transformers'."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerender.errors import UserError
from rerender.hosts.standalone.prompt import LoraTag, chunk_prompt, parse_emphasis, take_out_tags
from rerender.hosts.standalone.tokenizer import clip_tokenizer, tokenizer_from_folder

START, END, COMMA = 1000, 1001, 7


def _parsed(prompt: str) -> list[tuple[str | None, float]]:
    return [(piece.text, pytest.approx(piece.weight)) for piece in parse_emphasis(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [("", 1)]),
        ("plain text", [("plain text", 1)]),
        ("a (big) dog", [("a ", 1), ("big", 1.1), (" dog", 1)]),
        ("((big))", [("big", 1.1**2)]),
        ("(big:1.3)", [("big", 1.3)]),
        ("(big : 0.5 )", [("big ", 0.5)]),
        ("(big:-1)", [("big", -1)]),
        ("[big]", [("big", 1 / 1.1)]),
        ("[big (dog:1.5)]", [("big ", 1 / 1.1), ("dog", 1.5 / 1.1)]),
        ("([x])", [("x", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(never closed", [("never closed", 1.1)]),
        ("closed only) here:1.3)", [("closed only) here:1.3)", 1)]),
        (r"\(a\) \[b\] \\", [("(a) [b] \\", 1)]),
        (r"(smile \(:\):1.2)", [("smile (:)", 1.2)]),
        ("a BREAK b", [("a", 1), (None, 1), ("b", 1)]),
        ("BREAKFAST", [("BREAKFAST", 1)]),
        ("(a BREAK b:1.2)", [("a", 1.2), (None, 1.2), ("b", 1.2)]),
        ("(a:1.2.3)", [("a:1.2.3)", 1.1)]),
    ],
)
def test_emphasis(prompt: str, expected: list[tuple[str | None, float]]) -> None:
    assert _parsed(prompt) == expected


@given(st.text(alphabet="ab ()[]:\\,.1", max_size=30))
def test_emphasis_never_fails_and_keeps_the_letters(prompt: str) -> None:
    pieces = parse_emphasis(prompt)
    letters = "".join(piece.text or "" for piece in pieces)
    assert [c for c in letters if c in "ab"] == [c for c in prompt if c in "ab"]


@pytest.mark.parametrize("prompt", ["[cat:dog:0.5]", "[cat|dog]", "cat AND dog"])
def test_what_is_not_carried_out_is_said(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse_emphasis(prompt)
    assert "not carried out" in caplog.text


def _words(text: str) -> list[int]:
    return [COMMA if word == "," else int(word) for word in text.split()]


def _chunks(prompt: str):
    return chunk_prompt(prompt, _words, start=START, end=END, comma=COMMA)


def _numbers(first: int, count: int) -> str:
    return " ".join(str(100 + n) for n in range(first, first + count))


def test_an_empty_prompt_is_one_chunk() -> None:
    (chunk,) = _chunks("")
    assert chunk.tokens == (START, *[END] * 76)
    assert chunk.weights == (1.0,) * 77


def test_a_chunk_is_start_words_padding_end() -> None:
    (chunk,) = _chunks("5 (6:1.5)")
    assert chunk.tokens == (START, 5, 6, *[END] * 74)
    assert chunk.weights == (1, 1, 1.5, *[1] * 74)


@pytest.mark.parametrize(("count", "chunks"), [(75, 1), (76, 2), (150, 2), (151, 3)])
def test_long_prompts_take_more_chunks(count: int, chunks: int) -> None:
    found = _chunks(_numbers(0, count))
    assert len(found) == chunks
    words = [token for chunk in found for token in chunk.tokens if token not in (START, END)]
    assert words == _words(_numbers(0, count))
    assert all(len(chunk.tokens) == len(chunk.weights) == 77 for chunk in found)


@pytest.mark.parametrize(
    ("before_comma", "kept"),
    [
        (60, 61),  # the comma lies 15 tokens before the end: what follows it moves on
        (55, 56),  # 20 tokens: just near enough
        (54, 75),  # 21 tokens: too far, the chunk is filled
    ],
)
def test_a_comma_near_the_end_of_a_chunk_starts_the_next(before_comma: int, kept: int) -> None:
    found = _chunks(f"{_numbers(0, before_comma)} , {_numbers(before_comma, 30)}")
    assert len([token for token in found[0].tokens if token not in (START, END)]) == kept


def test_break_starts_a_chunk() -> None:
    found = _chunks("5 BREAK 6")
    assert [chunk.tokens[1] for chunk in found] == [5, 6]


def test_tags_are_taken_out() -> None:
    text, tags = take_out_tags("a cat <lora:ink> <lora:oil:0.5> <lora:x:0.5:0.25> <lora:y:te=0:unet=2>in a hat")
    assert text.split() == ["a", "cat", "in", "a", "hat"]
    assert tags == [
        LoraTag("ink", unet=1, text=1),
        LoraTag("oil", unet=0.5, text=0.5),
        LoraTag("x", unet=0.25, text=0.5),
        LoraTag("y", unet=2, text=0),
    ]


def test_unknown_tags_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert take_out_tags("<hypernet:x:1>a")[0] == "a"
    assert "hypernet" in caplog.text


TEXTS = [
    "a photograph of an astronaut riding a horse",
    "  Mixed   CASE,\n punctuation!? (brackets) [more] it's they're 12345 3.14",
    "naïve café über señor 東京 日本語 русский émoji 🙂🎉",
    "unbelievably antidisestablishmentarianism xqzjkv a_b-c/d\\e",
    "",
    "<|endoftext|> inside",
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers(text: str, tiny_checkpoint: Path) -> None:
    reference = pytest.importorskip("transformers").CLIPTokenizer.from_pretrained(
        tiny_checkpoint.with_name("tiny-clip")
    )
    reference.fix_text = lambda text: text  # as with ftfy installed, which the webui has
    expected = reference(text, add_special_tokens=False)["input_ids"]
    assert clip_tokenizer().encode(text) == expected
    assert tokenizer_from_folder(tiny_checkpoint.with_name("tiny-clip")).encode(text) == expected


def test_known_token_ids() -> None:
    """The ids that OpenAI's CLIP is documented with."""
    tokenizer = clip_tokenizer()
    assert (tokenizer.start, tokenizer.end, tokenizer.comma) == (49406, 49407, 267)
    assert tokenizer.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]


@pytest.mark.parametrize(
    ("written", "meant"), [("a &amp; b", "a & b"), ("it\u2019s \u201cso\u201d", 'it\'s "so"'), ("e\u0301", "\u00e9")]
)
def test_texts_are_cleaned(written: str, meant: str) -> None:
    assert clip_tokenizer().encode(written) == clip_tokenizer().encode(meant)


def test_a_folder_without_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vocab\.json"):
        tokenizer_from_folder(tmp_path)
