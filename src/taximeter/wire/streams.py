"""The byte path that meters of event streams share: find the framing, keep whole events, pass on.

A subclass says which events matter at once and reads them; everything else is kept raw and decoded
when someone looks. Its ``receive_data`` may have a quicker way for chunks that end with an event,
and hands all others to :meth:`StreamMeter._receive_slowly`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.wire.base import PENDING_BYTES_MAX, Visible
from taximeter.wire.framing import (
    BOM,
    ArraySplitter,
    BodyBuffer,
    EventSplitter,
    read_events,
    read_json,
)
from taximeter.wire.visible import Piece, VisibleText

_WHITE: Final = b" \t\r\n"
_LAST_BOUNDARY: Final = re.compile(rb".*(?:\n\n|\r\n\r\n|\r\r)", re.DOTALL)
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class StreamMeter:
    """Base of meters for ``text/event-stream``, a JSON array of the same events, or one JSON body.

    Which of them it is, the first byte that is not blank tells; content types are often wrong.
    """

    def __init__(
        self,
        *,
        whole_events: bool,
        arrays: bool = False,
    ) -> None:
        self.exc: WireError | None = None
        self._whole_events = whole_events
        self._arrays = arrays
        self._head = b""  # The start of a byte order mark, not yet passed on.
        self._body: BodyBuffer | None = None
        self._array: ArraySplitter | None = None
        self._elements = 0  # Whole elements of the array so far.
        self._splitter = EventSplitter()
        self._held = self._splitter.held  # The same object: its truth is read once a chunk.
        self._quick = False  # It is an event stream, and nothing has been wrong with it.
        self._silent = False
        self._ended = False
        self._visible = VisibleText()
        self._blocks = self._visible.blocks
        self._kept = 0  # Bytes in ``_blocks``, about.

    # What a subclass gives.

    def _read_block(self, block: bytes) -> None:
        """Read at once what matters in a block of whole events."""
        raise NotImplementedError

    def _read_body(self, document: object) -> None:
        """Read an answer that is one JSON document."""
        raise NotImplementedError

    def _decode(self, block: bytes) -> Iterator[Piece]:
        """The output that blocks of whole events carry, joined."""
        raise NotImplementedError

    # What it gets.

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now."""
        return self._receive_slowly(data)

    def receive_eof(self) -> bytes:
        """The answer has ended; return what was held back, if anything. Once; then it is empty."""
        if self._ended:
            return b""
        self._ended = True
        head, self._head = self._head, b""
        if self._body is not None:
            self._read_document(self._body)
            return b""
        rest = self._flush()
        if rest and self._array is None and not self._silent:
            self._take_block(rest)
        return head + rest if self._whole_events else head

    def take_visible(self) -> Visible:
        """Decode and return the output that came since the last look. May be called at any time."""
        visible = self._visible.take(self._decode)
        if not self._blocks:
            self._kept = 0
        return visible

    def _receive_slowly(self, data: bytes) -> bytes:
        if self._silent:
            rest = self._flush()  # Kept when silence fell in the middle of a chunk.
            return rest + data if self._whole_events else data
        if not self._quick and self._body is None and self._array is None:
            data, known = self._find_framing(data)
            if not known:
                return data
        try:
            if self._body is not None:
                self._body.feed(data)
                return data
            block = self._next_block(data)
        except WireError as exc:
            return self._give_up(exc, data)
        return block if self._whole_events else data

    def _next_block(self, data: bytes) -> bytes:
        """Read every event that ``data`` completes; return the bytes up to the last one's end."""
        if self._array is None:
            block = self._splitter.feed(data)
            if block:
                self._take_block(block)
            return block
        block, elements = self._array.feed(data)
        self._elements += len(elements)
        for element in elements:
            self._take_element(element)
        return block

    def _find_framing(self, data: bytes) -> tuple[bytes, bool]:
        """What of ``data`` to go on with, and whether the framing is known now."""
        data = self._head + data
        if len(data) < len(BOM) and BOM.startswith(data):
            self._head = data
            return b"", False
        self._head = b""
        start = data.removeprefix(BOM).lstrip(_WHITE)[:1]
        if not start:  # Blank keep-alives before any framing mean nothing.
            return data, False
        if self._arrays and start == b"[":
            self._array = ArraySplitter()
        elif start in (b"{", b"["):
            self._body = BodyBuffer()
        else:
            self._quick = True
        return data, True

    def _fall_silent(self, exc: WireError) -> None:
        """Keep what is known; read no more."""
        self.exc = self.exc or exc
        self._silent, self._quick = True, False

    def _give_up(self, exc: WireError, data: bytes) -> bytes:
        """Framing is lost: read the good events that remain, pass on every byte from now."""
        self._fall_silent(exc)
        if self._body is not None:
            return data
        rest = self._flush()
        if self._array is not None:
            self._take_elements(b"[" + rest if self._array.inside else rest)
        elif (good := _LAST_BOUNDARY.match(rest)) is not None:
            self._take_block(good.group())
        return rest if self._whole_events else data

    def _take_elements(self, data: bytes) -> None:
        """Read the whole elements of a damaged array, up to the damage."""
        array = ArraySplitter()
        for piece in data.split(b"}")[:-1]:
            try:
                _, elements = array.feed(piece + b"}")
            except WireError:
                return
            for element in elements:
                self._take_element(element)

    def _take_element(self, element: bytes) -> None:
        # As an event of the other framing. JSON has no line ends but between its tokens.
        self._take_block(b"data: %b\n\n" % element.translate(_LINE_ENDS))

    def _flush(self) -> bytes:
        return self._splitter.flush() if self._array is None else self._array.flush()

    def _take_block(self, block: bytes) -> None:
        self._read_block(block)
        self._blocks.append(block)
        self._kept += len(block)
        if self._kept > PENDING_BYTES_MAX:
            self._shrink()

    def _shrink(self) -> None:
        self._visible.shrink(self._decode)
        self._kept = 0

    def _read_document(self, body: BodyBuffer) -> None:
        if self._silent:
            return
        try:
            document = body.read()
        except WireError as exc:
            self._fall_silent(exc)
            return
        self._read_body(document)


def read_objects(block: bytes, *markers: bytes) -> Iterator[dict[str, Any]]:
    """JSON objects of a block's events that contain one of ``markers``; damaged ones are skipped."""
    for _, data in read_events(block):
        if any(marker in data for marker in markers):
            try:
                event = read_json(data)
            except WireError:
                continue
            if isinstance(event, dict):
                yield event
