"""What every wire protocol offers: read a request, rewrite it, meter its answer, end it well.

A *wire* is one request/answer format (``openai.chat``, ``anthropic.messages``, ...), whoever speaks it.
All of it is pure: bytes and parsed JSON in, facts and bytes out. No clock, socket, lock or log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

from taximeter.errors import WireError
from taximeter.usage import Part, Usage

BUFFER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest single event (or whole JSON body) that is kept to be read; more is the answer's defect."""

PENDING_BYTES_MAX: Final = 1024 * 1024
"""Undecoded bytes kept so that text is decoded only when someone looks; then they are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in the prompt. ``width`` and ``height`` in pixels where the bytes are at hand."""

    width: int | None = None
    height: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTool:
    """A tool that the provider runs itself (and bills): its fee kind and the calls it may make."""

    kind: str  # the fee's name, e.g. "web_search"; "" where none is known
    calls_max: int | None = None  # None: no limit was given


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model will read, as far as the request shows it."""

    texts: tuple[str, ...] = ()  # every string of messages, system, instructions, tool results
    messages: int = 0
    tools: int = 0
    tools_json: str = ""  # compact JSON of tool definitions and response schema
    images: tuple[Image, ...] = ()
    media_bytes: int = 0  # decoded size of inline audio, video and documents
    references: int = 0  # files and URLs whose size cannot be seen
    server_state: bool = False  # earlier turns or cached content kept by the provider
    cache_write: Literal["", "5m", "1h"] = ""  # the request asks to write to a prompt cache
    hosted_tools: tuple[HostedTool, ...] = ()
    hosted_calls_max: int | None = None  # one limit over all hosted tools (``max_tool_calls``)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """One request, read once. ``body`` is the caller's own object: never changed, only copied."""

    wire: str
    path: str  # URL path as sent, without the query
    body: Mapping[str, Any]
    model: str  # asked; "" where the request names none
    streamed: bool = False
    output_cap: int | None = None  # tokens the request allows for each choice
    choices: int = 1
    thinking_budget: int | None = None  # tokens; 0: thinking is off; None: not said
    include_usage: bool | None = None  # the caller's own ``stream_options.include_usage``
    service_tier: str | None = None
    prompt: Prompt = Prompt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """Output decoded since the last look, by kind. ``deltas`` counts the events that carried it."""

    text: str = ""
    reasoning: str = ""
    tool: str = ""  # tool names and arguments
    deltas: int = 0


class Meter(Protocol):
    """Reads one answer as it passes. Feed every chunk, in order, cut anywhere; then ``receive_eof``.

    Nothing here raises on bad input: the first defect stays in :attr:`exc`, the meter falls silent
    and keeps what it knew. The caller's bytes pass through untouched in every case.
    """

    usage: Usage | None  # the provider's latest figures, normalised; final once ``terminal``
    parts: tuple[Part, ...]  # other models billed inside this answer, not in ``usage``
    provider_cost: Decimal | None  # USD the provider says it cost
    model: str | None  # the model that answered
    service_tier: str | None  # as answered
    finish: Literal["stop", "length", "tool", "filter", "error", "other"] | None
    terminal: bool  # the protocol's last event was seen; figures will not change
    error: str | None  # type or message of an error event inside a 200
    exc: WireError | None

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now (mostly ``data`` itself)."""
        ...

    def receive_eof(self) -> bytes:
        """The answer has ended; return what was held back, if anything."""
        ...

    def take_visible(self) -> Visible:
        """Decode and return the output that came since the last look. May be called at any time."""
        ...

    def ending(self, usage: Usage | None = None) -> bytes:
        """A well-formed ending of the protocol, as if the output limit had been reached here.

        Continues what the caller has been given so far (whole events; see ``whole_events``).
        ``usage``: our figures for it, shown where this protocol shows usage to this caller.
        """
        ...


class Wire(Protocol):
    """One protocol. Instances are stateless and shared."""

    name: str

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        """The facts of a request. Odd or missing fields are read as absent, never an error."""
        ...

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        """Path and body with these changes. A new dict; nothing inside the old one is changed.

        ``output_cap``: lower (or set) the output limit, in the field this request already uses,
        else in the one this protocol prefers. ``include_usage``: ask for usage in the stream.
        """
        ...

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> Meter:
        """A meter for one answer (2xx).

        Args:
            request: What was asked, where known.
            content_type: Of the answer; decides between stream framing and one JSON body.
            strip_usage: The usage was asked for by us: take it out of what the caller sees.
            whole_events: Hand on only complete events, so that ``ending`` can follow at any time.
        """
        ...
