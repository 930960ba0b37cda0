"""What the meters of OpenAI's streams share: framing, the hot path, stripping, lazy text.

Per chunk only bytes are searched. An event is parsed when it carries usage, an end or an error;
every event is kept raw, and its text is decoded when someone looks (:meth:`take_visible`), be it
in another thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, Literal

from taximeter.errors import WireError
from taximeter.usage import Part, Usage
from taximeter.wire.base import BUFFER_BYTES_MAX, PENDING_BYTES_MAX, Visible, WireRequest
from taximeter.wire.framing import (
    BOM,
    BodyBuffer,
    EventSplitter,
    read_events,
    read_json,
    split_events,
)
from taximeter.wire.visible import Piece, VisibleText

LINE_FEED: Final = 0x0A
_BLANK: Final = b" \t\r\n"

Finish = Literal["stop", "length", "tool", "filter", "error", "other"]


class Shown:
    """Collects visible output while events are decoded."""

    __slots__ = ("pieces", "reasoning", "text", "tool")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool: list[str] = []
        self.pieces = 0

    def add_text(self, piece: Any) -> None:
        """Keep ``piece`` if it is a string with something in it."""
        if isinstance(piece, str) and piece:
            self.text.append(piece)
            self.pieces += 1

    def add_reasoning(self, piece: Any) -> None:
        """As :meth:`add_text`, for shown reasoning."""
        if isinstance(piece, str) and piece:
            self.reasoning.append(piece)
            self.pieces += 1

    def add_tool(self, piece: Any) -> None:
        """As :meth:`add_text`, for names and arguments of tool calls."""
        if isinstance(piece, str) and piece:
            self.tool.append(piece)
            self.pieces += 1

    def piece(self) -> Piece:
        """Text, reasoning and tool calls that were collected."""
        return "".join(self.text), "".join(self.reasoning), "".join(self.tool)


class StreamMeter:
    """A meter of ``text/event-stream`` or one JSON body; the first bytes decide which it is.

    A subclass tells by its bytes which event must be read at once (``_urgent``) and says what
    events, bodies and deltas mean. Feeding is for one thread at a time; looking
    (``take_visible``) may happen in another.
    """

    # What a meter begins with; a short answer changes few of them.
    usage: Usage | None = None
    parts: tuple[Part, ...] = ()
    provider_cost: Decimal | None = None
    model: str | None = None
    service_tier: str | None = None
    finish: Finish | None = None
    terminal = False
    error: str | None = None
    exc: WireError | None = None
    _null = b""  # spelling of the usage-null that we caused, once seen
    _plain = False  # the hot path may be taken: events, none held, the first one read
    _body: BodyBuffer | None = None
    _splitter: EventSplitter | None = None
    _lead = b""  # blanks before the first byte that decides the framing
    _trim = 0  # bytes of ``_lead`` that the caller has already been given
    _started = False  # the first event that says who answers has been read
    _pending_bytes = 0

    def __init__(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        self._request = request
        self._strip = strip_usage
        self._whole = whole_events
        self._holding = strip_usage or whole_events
        self._bytes_max = buffer_bytes_max
        self._pending_bytes_max = pending_bytes_max
        self._visible = VisibleText()
        self._pending = self._visible.blocks
        self._documents: list[dict[str, Any]] = []  # whole answers that nobody has looked at

    # --- feeding ---------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now.

        Subclasses put their hot path before this: one whole event that is not urgent.
        """
        return self._receive(data)

    def receive_eof(self) -> bytes:
        """The answer has ended; return what was held back."""
        if self.exc is not None:
            return b""
        if self._body is not None:
            self._read_whole_body(self._body)
            return b""
        if self._splitter is None:
            return b""
        self._plain = False
        rest = self._splitter.flush()
        if rest:
            # A stream may lack its last blank line, or break off inside an event: then the rest
            # is no defect of the protocol's, only unfinished.
            out = self._pass(rest)
            self.exc = None
        else:
            out = b""
        self._at_eof()
        return self._hand_on(out, b"")

    def _receive(self, data: bytes) -> bytes:
        if self.exc is not None:
            return data
        if self._body is not None:
            self._feed_body(self._body, data)
            return data
        if self._splitter is None:
            return self._sniff(data)
        try:
            block = self._splitter.feed(data)
        except WireError as exc:
            self.exc, self._plain = exc, False
            return self._hand_on(self._splitter.flush(), data)
        out = self._pass(block) if block else b""
        self._plain = self._started and not self._splitter.held and not self._is_silent()
        if self._holding and self._is_silent():
            out += self._splitter.flush()
        return self._hand_on(out, data)

    def _is_silent(self) -> bool:
        return self.exc is not None

    def _hand_on(self, out: bytes, data: bytes) -> bytes:
        """What the caller sees now: ``data`` as it came, or ``out`` where events are held back."""
        if not self._holding:
            return data
        if self._trim:
            trim = min(self._trim, len(out))
            self._trim -= trim
            out = out[trim:]
        return out

    def _sniff(self, data: bytes) -> bytes:
        """Decide by the first byte that is not blank; servers' content types are not to be trusted."""
        lead = self._lead + data
        start = lead.removeprefix(BOM).lstrip(_BLANK)
        if not start or BOM.startswith(start):
            self._lead = lead[-64:]  # Blanks carry nothing; a keep-alive may send them for hours.
            return data
        self._trim, self._lead = len(lead) - len(data), b""
        if start[:1] in b"{[":
            self._body = BodyBuffer(bytes_max=self._bytes_max)
            self._feed_body(self._body, lead)
            return data
        self._splitter = EventSplitter(bytes_max=self._bytes_max)
        seen = self._receive(lead)
        return seen if self._holding else data

    # --- events ----------------------------------------------------------------------------------

    def _pass(self, block: bytes) -> bytes:
        """Read the events of a block of whole events; return it as the caller should see it."""
        passed: list[bytes] = []
        for raw in split_events(block):
            if self.exc is not None:
                passed.append(raw)
                continue
            self._keep(raw)
            bare = raw.replace(self._null, b"") if self._null else raw
            if not self._started or self._urgent(bare):
                passed.append(self._pass_event(raw))
            else:
                passed.append(bare if self._strip else raw)
        return b"".join(passed)

    def _urgent(self, raw: bytes) -> bool:
        """Whether an event must be read at once, told by its bytes. Never false for one with usage,
        an error or an end; the hot path applies the same test, so that cuts change nothing."""
        raise NotImplementedError

    def _pass_event(self, raw: bytes) -> bytes:
        try:
            for name, data in read_events(raw):
                if self._receive_event(name, data, raw) and self._strip:
                    return b""
        except WireError as exc:
            self.exc = exc
            return raw
        return raw.replace(self._null, b"") if self._null and self._strip else raw

    def _receive_event(self, name: str, data: bytes, raw: bytes) -> bool:
        """Read one event at once. True: it is there only because we asked for usage."""
        raise NotImplementedError

    def _at_eof(self) -> None:
        """The stream has ended without a defect."""

    def _read_body(self, body: Any) -> None:
        """Read the figures of a whole JSON answer. ``WireError``: it is none."""
        raise NotImplementedError

    def _show_body(self, body: dict[str, Any], shown: Shown) -> None:
        """Collect the visible output of a whole JSON answer."""
        raise NotImplementedError

    def _feed_body(self, body: BodyBuffer, data: bytes) -> None:
        try:
            body.feed(data)
        except WireError as exc:
            self.exc = exc

    def _read_whole_body(self, body: BodyBuffer) -> None:
        try:
            document = body.read()
            self._read_body(document)
        except WireError as exc:
            self.exc = exc
        else:
            self._documents.append(document)

    # --- text ------------------------------------------------------------------------------------

    def _keep(self, raw: bytes) -> None:
        self._pending.append(raw)
        self._pending_bytes += len(raw)
        if self._pending_bytes > self._pending_bytes_max:
            self._shrink()

    def _shrink(self) -> None:
        """Keep decoded text in place of raw events: what is held stays bounded."""
        self._pending_bytes = 0
        self._visible.shrink(self._decode_block)

    def take_visible(self) -> Visible:
        """Decode and return the output that came since the last look. Any thread, any time."""
        self._pending_bytes = 0
        if self._documents:
            self._show_documents()
        return self._visible.take(self._decode_block)

    def _show_documents(self) -> None:
        """A whole answer is searched for output only if someone looks: mostly its usage is enough."""
        try:
            document = self._documents.pop()
        except IndexError:  # Another thread has it.
            return
        shown = Shown()
        self._show_body(document, shown)
        if shown.pieces:
            self._visible.add([shown.piece()])

    def _decode_block(self, block: bytes) -> Iterator[Piece]:
        """The output of whole events. A subclass may know ordinary ones without parsing them."""
        return self._parse_block(block)

    def _parse_block(self, block: bytes) -> Iterator[Piece]:
        for name, data in read_events(block):
            try:
                event = read_json(data)
            except WireError:
                continue  # "[DONE]", or damaged: the caller's client will say so.
            if isinstance(event, dict):
                shown = Shown()
                self._decode_event(name, event, shown)
                if shown.pieces:
                    yield shown.piece()

    def _decode_event(self, name: str, event: dict[str, Any], shown: Shown) -> None:
        """Collect the visible output of one event, and what an ending needs to know."""
        raise NotImplementedError

    def ending(self, usage: Usage | None = None) -> bytes:
        """A well-formed ending, as if the output limit had been reached here."""
        raise NotImplementedError
