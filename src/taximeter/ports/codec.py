"""Compressed answers: read plain, handed on in the coding that their headers name.

Headers are the caller's too (SDKs show them), so they stay. Bytes that nobody may change pass as they
came; the others are coded anew with stored blocks, which costs a checksum and a copy.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}


class Codec:
    """Decodes one answer for the meter, and codes what the meter lets through.

    Args:
        decoder: The client library's own decoder for this answer.
        coding: The answer's ``content-encoding``.
        rewrites: The meter may change the bytes; else the caller gets them as they came.
    """

    def __init__(self, decoder: Any, coding: str, *, rewrites: bool) -> None:
        self._decoder = decoder
        self._passes = not rewrites
        self._packer: Any = None
        if rewrites and coding in _WINDOW_BITS:
            self._packer = zlib.compressobj(0, wbits=_WINDOW_BITS[coding])

    @property
    def hands_on_plain(self) -> bool:
        """Nothing here can code it anew: the headers must not speak of a coding any more."""
        return not self._passes and self._packer is None

    def decode(self, data: bytes) -> bytes:
        """The plain bytes of ``data``."""
        plain = self._decoder.decode(data)
        return plain if isinstance(plain, bytes) else b"".join(plain)

    def encode(self, out: bytes, data: bytes = b"") -> bytes:
        """What the caller gets for ``data``, of which the meter made ``out``."""
        if self._passes:
            return data
        if self._packer is None or not out:
            return out
        packed: bytes = self._packer.compress(out) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        return packed

    def finish(self) -> bytes:
        """The end of the coding, after the last bytes of an answer that came whole."""
        return self._packer.flush() if self._packer is not None else b""
