"""Ordinary deltas, read by one search in C instead of a JSON parser: most of a stream is such.

A pattern matches one whole event, and only where it knows what a parser would have found: every byte
of the event is part of it. Whatever it does not match is read as JSON, see :func:`split_known`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

STRING: Final = (
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'  # between quotes
)
INTEGER: Final = rb"(?:0|[1-9][0-9]{0,14}+)"
COLON: Final = rb'" ?: ?'  # with the quote that ends the key
COMMA: Final = rb", ?"
_decode: Final = json.JSONDecoder().decode
_SCALAR: Final = (
    rb'(?:"[^"\\\x00-\x1f]*+"|-?+' + INTEGER + rb"(?:\.[0-9]{1,15}+)?+|null|true|false)"
)


def member(*others: bytes) -> bytes:
    """A pattern of a key and its scalar value; the keys ``others`` have patterns of their own."""
    keys = b"".join(b"(?!" + key + b'")' for key in others)
    return b'"' + keys + rb'[^"\\\x00-\x1f]*+' + COLON + _SCALAR


def split_known(pattern: re.Pattern[bytes], block: bytes) -> Iterator[re.Match[bytes] | bytes]:
    """A block of whole events, in order: a match for each that ``pattern`` knows, else its bytes."""
    if not block.isascii():
        try:
            block.decode("utf-8", "surrogatepass")
        except ValueError:  # Which event is damaged, the parser finds out.
            yield block
            return
    match, position, size = pattern.match, 0, len(block)
    while position < size:
        known = match(block, position)
        if known is not None:
            position = known.end()
            yield known
            continue
        end = block.find(b"\n\n", position) + 2
        if end < 2:
            end = size
        yield block[position:end]
        position = end


def text_of(raw: bytes) -> str:
    """What a JSON string says; ``raw`` is what :data:`STRING` has matched."""
    text = raw.decode("utf-8", "surrogatepass")
    if "\\" not in text:
        return text
    said: str = _decode(f'"{text}"')
    return said
