"""Framing: from bytes cut anywhere to whole events, elements or one JSON body.

Two steps, so that the common case stays cheap. A *splitter* hands back raw bytes up to the last
complete event and keeps the tail; :func:`read_events` takes such a block apart. A meter whose
chunk already ends on an event boundary needs neither until an event is of interest.

Splitters are bounded: a tail beyond the limit raises :class:`WireError`, and ``flush`` still gives
back every byte that was kept, so nothing of the caller's is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.wire.base import BUFFER_BYTES_MAX

BOM: Final = b"\xef\xbb\xbf"

# A line end and the blank line after it. The group is atomic, else "\r\n" alone would match as two
# line ends. A lone "\r" at the end of the data may be half of "\r\n": only "\r\r" is taken at once.
_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r(?=[^\n]))|\r\r")
_BOUNDARY_BYTES_MAX: Final = 4
_decode: Final = json.JSONDecoder().decode
_raw_decode: Final = json.JSONDecoder().raw_decode


class EventSplitter:
    """Cuts ``text/event-stream`` bytes after blank lines (LF, CRLF or CR).

    ``held`` is the tail that has no blank line yet. Time is linear in the bytes fed, however they
    are cut.
    """

    __slots__ = ("_bytes_max", "held")

    def __init__(self, *, bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self.held = bytearray()
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return everything up to the last complete event, as it came.

        Raises:
            WireError: The tail is longer than the limit; :meth:`flush` returns it all.
        """
        held = self.held
        if not held and data.endswith(b"\n\n"):
            return data
        searched = max(0, len(held) - _BOUNDARY_BYTES_MAX + 1)
        held += data
        end = _last_boundary(held, searched)
        block = bytes(held[:end])
        del held[:end]
        if len(held) > self._bytes_max:
            if block:  # The good events before it are still to be read, and passed on.
                held[:0] = block
            raise WireError(f"an event is longer than {self._bytes_max} bytes")
        return block

    def flush(self) -> bytes:
        """The stream has ended, or is not to be split any more: all that was kept."""
        rest = bytes(self.held)
        self.held.clear()
        return rest


def _last_boundary(held: bytearray, start: int) -> int:
    """End of the last blank line at or after ``start``, else 0."""
    end = held.rfind(b"\n\n", start) + 2
    if end == 1:
        end = start
        found = False
    else:
        found = True
    for match in _BOUNDARY.finditer(held, end):
        end = match.end()
        found = True
    return end if found else 0


def split_events(block: bytes) -> list[bytes]:
    """A block from :class:`EventSplitter` as single raw events; joined they are the block."""
    if b"\r" not in block:
        parts = block.split(b"\n\n")
        events = [part + b"\n\n" for part in parts[:-1]]
        if parts[-1]:
            events.append(parts[-1])
        return events
    events, start = [], 0
    for match in _BOUNDARY.finditer(block):
        events.append(block[start : match.end()])
        start = match.end()
    if start < len(block):
        events.append(block[start:])
    return events


def read_events(block: bytes) -> Iterator[tuple[str, bytes]]:
    """Events of a block from :class:`EventSplitter`: name (``""`` where none is given) and data.

    Comments, ids and retry times are skipped; several data lines are joined by a line feed; an
    event without data is none. A block without its last blank line gives its last event too.
    """
    if block.startswith(BOM):
        block = block[3:]
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    name, lines = "", []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
        elif line.startswith(b"error:"):  # llama-box ends a failed stream with such a field.
            name, lines = "error", [line[6:].strip()]
        elif not line:
            if lines:
                yield name, b"\n".join(lines)
            name, lines = "", []
    if lines:
        yield name, b"\n".join(lines)


def read_json(data: bytes | bytearray) -> Any:
    """One JSON document, with blank keep-alives around it.

    Raises:
        WireError: Not JSON, nested too deeply, or not UTF-8.
    """
    try:
        if data[:3] == BOM:
            data = data[3:]
        # Twice as fast for small events as json.loads, which would guess the encoding first.
        text = data.decode("utf-8", "surrogatepass")
        if text[:1] == "{" and text[-1] == "}":  # No blanks around: nothing to skip.
            value, end = _raw_decode(text)
            if end == len(text):
                return value
        return _decode(text)
    except (ValueError, RecursionError) as exc:  # Deep nesting recurses inside json.
        raise WireError("not JSON") from exc


class BodyBuffer:
    """Keeps a body that is one JSON document until it has ended."""

    __slots__ = ("_bytes_max", "_chunks", "_size")

    def __init__(self, *, bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> None:
        """Keep the next bytes.

        Raises:
            WireError: The body is longer than the limit. What was kept is dropped.
        """
        self._size += len(data)
        if self._size > self._bytes_max:
            self._chunks.clear()
            raise WireError(f"the body is longer than {self._bytes_max} bytes")
        self._chunks.append(data)

    def read(self) -> Any:
        """The document. Memory is freed: a second call raises.

        Raises:
            WireError: Not one JSON document.
        """
        data = b"".join(self._chunks)
        self._chunks.clear()
        return read_json(data)


_TOKEN: Final = re.compile(rb'["{}\[\]]')
_STRING_REST: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STRING_WHOLE: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


class ArraySplitter:
    """Cuts a stream that is one JSON array into its elements (objects or arrays).

    ``held`` is the part after the last complete element; ``closed`` says that the array has ended,
    ``inside`` that ``held`` begins within it.
    Brackets inside strings are not counted. Time is linear however the bytes are cut.
    """

    __slots__ = (
        "_bytes_max",
        "_depth",
        "_position",
        "_start",
        "_string",
        "closed",
        "held",
        "inside",
    )

    def __init__(self, *, bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self.held = bytearray()
        self.closed = False
        self.inside = False
        self._bytes_max = bytes_max
        self._position = 0  # read so far, within ``held``
        self._start = -1  # of the open element, within ``held``
        self._depth = 0
        self._string = False

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Take the next bytes.

        Returns:
            Everything up to the end of the last complete element (with the brackets, commas and
            blanks before it, as they came), and the elements that were completed.

        Raises:
            WireError: An element is longer than the limit, or brackets do not match.
        """
        self.held += data
        end, elements, inside = self._scan()
        whole = bytes(self.held[:end])
        del self.held[:end]
        self._position -= end
        if self._start >= 0:
            self._start -= end
        if len(self.held) > self._bytes_max:
            self.held[:0] = whole
            raise WireError(f"an element is longer than {self._bytes_max} bytes")
        self.inside = inside
        return whole, elements

    def flush(self) -> bytes:
        """All that was kept."""
        rest = bytes(self.held)
        self.held.clear()
        self._position, self._start = 0, -1
        return rest

    def _scan(self) -> tuple[int, list[bytes], bool]:
        held, end, inside = self.held, 0, self.inside
        elements: list[bytes] = []
        while True:
            if self._string:
                match = _STRING_REST.match(held, self._position)
                if match is None:
                    # Stop before a backslash whose partner has not come yet.
                    rest = _STRING_WHOLE.match(held, self._position)
                    assert rest is not None  # The pattern matches the empty string.
                    self._position = rest.end()
                    return end, elements, inside
                self._position, self._string = match.end(), False
            match = _TOKEN.search(held, self._position)
            if match is None:
                self._position = len(held)
                return end, elements, inside
            self._position = match.end()
            token = held[match.start()]
            if token == 0x22:
                self._string = True
            elif token in b"{[":
                self._depth += 1
                if self._depth == 2:
                    self._start = match.start()
            else:
                self._depth -= 1
                if self._depth == 1:
                    elements.append(bytes(held[self._start : match.end()]))
                    self._start, end, inside = -1, match.end(), True
                elif self._depth == 0:
                    self.closed, end, inside = True, match.end(), False
                elif self._depth < 0:
                    raise WireError("a bracket closes what was not open")
