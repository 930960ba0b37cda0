"""Output text that is decoded only when someone looks.

A stream passes in hundreds of small blocks of bytes; most of them are never read by us. They are
kept raw, here, and taken apart when the fare is looked at. One thread feeds while another may look:
``deque`` operations are atomic, and only one thread at a time decodes (the others go without).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from taximeter.wire.base import BUFFER_BYTES_MAX, PENDING_BYTES_MAX, Visible
from taximeter.wire.body import clean

Piece = tuple[str, str, str]
"""What one event carried: text, reasoning, tool names and arguments."""

Decode = Callable[[bytes], Iterator[Piece]]

_NOTHING: Final = Visible()


class VisibleText:
    """Raw blocks in, :class:`Visible` out.

    A block is one or more whole events; only the last block of a stream may lack its blank line.
    ``decode`` reads many of them at once, joined, and never raises. It is given at each look, not
    kept: a meter that its own text points back to would be freed by the garbage collector only.
    """

    __slots__ = ("_decoded", "_turn", "blocks")

    def __init__(self) -> None:
        self.blocks: deque[bytes] = deque()
        self._decoded: deque[Visible] = deque()
        self._turn = [True]  # Whoever pops it decodes; popping is atomic, so no lock is needed.

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take in output that is decoded already."""
        self._decoded.extend(
            Visible(text=clean(text), reasoning=clean(reasoning), tool=clean(tool), deltas=1)
            for text, reasoning, tool in pieces
        )

    def take(self, decode: Decode) -> Visible:
        """What came since the last look, decoded."""
        self._drain(decode)
        return self._pop_decoded()

    def shrink(self, decode: Decode) -> None:
        """Decode now and keep the text instead of the bytes, so that memory stays bounded.

        Text that nobody has looked at for 16 M characters is dropped; its events stay counted.
        """
        self._drain(decode)
        seen = self._pop_decoded()
        if len(seen.text) + len(seen.reasoning) + len(seen.tool) > BUFFER_BYTES_MAX:
            seen = Visible(deltas=seen.deltas)
        self._decoded.appendleft(seen)

    def _drain(self, decode: Decode) -> None:
        if not self.blocks:
            return
        try:
            self._turn.pop()
        except IndexError:  # Another thread is at it: what it decodes is seen at the next look.
            return
        try:
            while self.blocks:
                self._decode_some(decode)
        finally:
            self._turn.append(True)

    def _decode_some(self, decode: Decode) -> None:
        """Decode what is there, up to the limit, and join it once."""
        blocks: list[bytes] = []
        size = 0
        while self.blocks and size < PENDING_BYTES_MAX:
            block = self.blocks.popleft()
            size += len(block)
            blocks.append(block)
        texts: list[str] = []
        reasonings: list[str] = []
        tools: list[str] = []
        deltas = 0
        for text, reasoning, tool in decode(blocks[0] if len(blocks) == 1 else b"".join(blocks)):
            texts.append(text)
            if reasoning:
                reasonings.append(reasoning)
            if tool:
                tools.append(tool)
            deltas += 1
        if deltas:
            self._decoded.append(
                Visible(
                    text=clean("".join(texts)),
                    reasoning=clean("".join(reasonings)),
                    tool=clean("".join(tools)),
                    deltas=deltas,
                )
            )

    def _pop_decoded(self) -> Visible:
        found: list[Visible] = []
        while True:
            try:
                found.append(self._decoded.popleft())
            except IndexError:
                break
        if len(found) < 2:
            return found[0] if found else _NOTHING
        return Visible(
            text="".join(v.text for v in found),
            reasoning="".join(v.reasoning for v in found),
            tool="".join(v.tool for v in found),
            deltas=sum(v.deltas for v in found),
        )
