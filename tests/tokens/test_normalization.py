"""The byte bound: tokens a byte-level vocabulary cannot pass, NFKC or not."""

from __future__ import annotations

import sys
from unicodedata import normalize

from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.tokens.normalization import byte_bound


def utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@given(st.text())
@example("\ufdfa")  # 3 bytes, 33 after NFKC
@example("a½")
@example("\ud800x")
@example("e\u0301 ÅÅ")
@example("１２３，ｶﾞ")
def test_bound_covers_the_text_as_it_is_and_normalised(text: str) -> None:
    bound = byte_bound(text)
    assert bound >= max(utf8(text), utf8(normalize("NFKC", text)))


def test_every_character_that_grows_under_nfkc_is_known() -> None:
    missed = [
        hex(code)
        for code in range(0x80, sys.maxunicode + 1)
        if not 0xD800 <= code <= 0xDFFF
        and not (0xAC00 <= code <= 0xD7A3 or 0x4E00 <= code <= 0x9FFF or code >= 0x30000)
        and utf8(normalize("NFKC", chr(code))) > byte_bound(chr(code))
    ]
    assert missed == []


def test_plain_text_is_bound_by_its_own_bytes() -> None:
    assert byte_bound("plain") == 5
    assert byte_bound("déjà") == 6
    assert byte_bound("模型，令牌") == 15
