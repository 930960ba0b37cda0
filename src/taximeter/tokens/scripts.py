"""Tokens of a text from its bytes, by class of character: no vocabulary, a microsecond a kilobyte.

Byte-pair vocabularies spend about a fifth of a token on a lower-case letter, most of one on a digit or a
capital (identifiers, base64), and a fixed share of one on each character of another script. Sums over
such classes follow o200k within a tenth on prose and code, where bytes / 4 is off by three on base64.
"""

from __future__ import annotations

from typing import Final

_LOWER: Final = bytes(range(0x61, 0x7B))
_UPPER: Final = bytes(range(0x41, 0x5B))
_DIGITS: Final = b"0123456789"
_SPACE: Final = b" \t\r\n"
_NOT_LEADING: Final = bytes(range(0xC2))  # ASCII and continuation bytes
_LATIN: Final = bytes(range(0xC2, 0xCC))  # é, ß, ł
_TWO_BYTES: Final = bytes(range(0xCC, 0xE0))  # Greek, Cyrillic, Hebrew, Arabic
_INDIC: Final = b"\xe0\xe1\xe2"  # Indic, Thai, Khmer; typographic marks
_EAST_ASIAN: Final = bytes(range(0xE3, 0xEE))  # Han, kana, Hangul
_PRIVATE: Final = b"\xee\xef"  # private use, compatibility and full-width forms

SAMPLE_BYTES: Final = 1 << 18
"""A text longer than this is judged by three parts of it; the bound still counts every byte."""


def estimate(text: str) -> tuple[float, float]:
    """Tokens of ``text`` in a 100k-200k vocabulary: the expected count and a high one.

    The high count covers the classes' usual spread (99 % of texts above 20 tokens), not an adversary:
    that is what the byte bound is for. Both are sums over characters: parts may be added up.
    """
    return estimate_bytes(text.encode("utf-8", "surrogatepass"), ascii_only=text.isascii())


def estimate_bytes(data: bytes, *, ascii_only: bool) -> tuple[float, float]:
    """:func:`estimate` for text that is in UTF-8 already."""
    scale = 1.0
    if len(data) > SAMPLE_BYTES:
        data, scale = _sample(data)
    rest = data.translate(None, _LOWER)
    lower = len(data) - len(rest)
    visible = rest.translate(None, _SPACE)
    space = len(rest) - len(visible)
    marks = visible.translate(None, _UPPER)
    upper = len(visible) - len(marks)
    others = marks.translate(None, _DIGITS)
    digits = len(marks) - len(others)
    punctuation = len(others)
    expected = high = 0.0
    if not ascii_only:
        expected, high, foreign = _foreign(others)
        punctuation -= foreign
    expected += 0.175 * lower + 0.2 * space + 0.75 * upper + 0.7 * digits + 0.42 * punctuation
    high += 0.22 * lower + 0.28 * space + 1.2 * upper + 0.85 * digits + 0.65 * punctuation
    return expected * scale, high * scale


def _foreign(others: bytes) -> tuple[float, float, int]:
    """Expected and high tokens of the non-ASCII characters, and how many bytes they are."""
    left = others.translate(None, _NOT_LEADING)
    counts = []
    for leading in (_LATIN, _TWO_BYTES, _INDIC, _EAST_ASIAN, _PRIVATE):
        rest = left.translate(None, leading)
        counts.append(len(left) - len(rest))
        left = rest
    latin, two_bytes, indic, east_asian, private = counts
    astral = len(left)  # four bytes: emoji, rare Han
    expected = 0.6 * latin + 0.4 * two_bytes + 0.7 * indic + 0.8 * east_asian
    expected += 1.2 * private + 2.2 * astral
    high = 1.2 * latin + 1.25 * two_bytes + 2 * indic + 1.6 * east_asian
    high += 2.5 * private + 4 * astral
    foreign = 2 * (latin + two_bytes) + 3 * (indic + east_asian + private) + 4 * astral
    return expected, high, foreign


def _sample(data: bytes) -> tuple[bytes, float]:
    """Three equal parts (start, middle, end), and what their sum must be multiplied with."""
    part = SAMPLE_BYTES // 3
    middle = (len(data) - part) // 2
    parts = data[:part] + data[middle : middle + part] + data[-part:]
    return parts, len(data) / len(parts)
