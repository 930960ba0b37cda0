"""Bytes a tokenizer may see: UTF-8, or UTF-8 of the NFKC normal form, whichever is longer.

A byte-level vocabulary spends at most one token a byte. A few tokenizers normalise first, and some
characters grow by that: U+FDFA from 3 bytes to 33, ½ from 2 to 5. The ranges below hold every such
character (checked against ``unicodedata`` by a test), so that most texts need no normalisation.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_ASCII: Final = bytes(range(0x80))
_NEVER_GROWING: Final = bytes((*range(0x80, 0xC0), 0xC3, 0xD0, 0xD1, *range(0xE4, 0xEE)))
"""Continuation bytes, and the leading bytes of é, Cyrillic, most Han and Hangul."""

_GROWING: Final = (
    (0xA8, 0xBE), (0x13F, 0x149), (0x1C4, 0x1C6), (0x2D8, 0x2DD), (0x344, 0x344), (0x37A, 0x385),
    (0x587, 0x587), (0x675, 0x678), (0x958, 0x95F), (0x9DC, 0x9DF), (0xA33, 0xA36), (0xA59, 0xA5E),
    (0xB5C, 0xB5D), (0xE33, 0xE33), (0xEB3, 0xEB3), (0xEDC, 0xEDD), (0xF43, 0xFB9),
    (0x1FC1, 0x1FEE), (0x2033, 0x2057), (0x2150, 0x2189), (0x222C, 0x2230), (0x247D, 0x2487),
    (0x2A0C, 0x2A0C), (0x2ADC, 0x2ADC), (0x309B, 0x309F), (0x30FF, 0x30FF), (0x3200, 0x3243),
    (0x327C, 0x327D), (0x32C0, 0x32CB), (0x32FF, 0x33FE), (0xFA6C, 0xFA6C), (0xFACF, 0xFAD7),
    (0xFB13, 0xFB4F), (0xFBDD, 0xFDC7), (0xFDF0, 0xFDFC), (0xFE71, 0xFE7F), (0xFEF5, 0xFEFC),
    (0x1D15E, 0x1D164), (0x1D1BB, 0x1D1C0), (0x1F12A, 0x1F12A), (0x1F200, 0x1F201),
    (0x1F240, 0x1F248),
)  # fmt: skip


def byte_bound(text: str, data: bytes | None = None) -> int:
    """Most tokens a byte-level vocabulary can spend on ``text``, framing apart.

    ``data``: the text in UTF-8 (lone surrogates passed), where the caller has it already.
    """
    if text.isascii():
        return len(text)
    if data is None:
        data = text.encode("utf-8", "surrogatepass")
    foreign = data.translate(None, _ASCII)
    leading = foreign.translate(None, _NEVER_GROWING)
    if not leading:
        return len(data)
    if not _growing(astral=b"\xf0" in leading).search(foreign.decode("utf-8", "surrogatepass")):
        return len(data)
    from unicodedata import normalize  # Few prompts ever need it.

    return max(len(data), len(normalize("NFKC", text).encode("utf-8", "surrogatepass")))


@cache
def _growing(*, astral: bool) -> re.Pattern[str]:
    # Without the astral ranges ``re`` looks characters up in a bitmap: three times as fast on Han.
    ranges = _GROWING if astral else [pair for pair in _GROWING if pair[1] < 0x10000]
    return re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges) + "]")
