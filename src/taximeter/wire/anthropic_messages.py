"""Anthropic Messages: ``POST /v1/messages``, also on Vertex (``:rawPredict``) and Bedrock paths.

A stream is ``message_start`` (exact input, a placeholder for the output), content blocks, then
``message_delta`` (stop reason, cumulative usage) and ``message_stop``. ``ping`` may come anywhere,
``error`` inside a 200 too. Vertex sometimes sends the whole message as one ``message`` event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.errors import WireError
from taximeter.usage import Usage
from taximeter.wire import anthropic_ending, anthropic_request
from taximeter.wire.anthropic_answer import AnthropicAnswer
from taximeter.wire.base import PENDING_BYTES_MAX, Meter, WireRequest
from taximeter.wire.body import items, string
from taximeter.wire.deltas import COLON, COMMA, INTEGER, STRING, split_known, text_of
from taximeter.wire.framing import read_events, read_json
from taximeter.wire.streams import StreamMeter, read_objects
from taximeter.wire.visible import Piece

_DELTA: Final = b"event: content_block_delta\n"

# Any other event is parsed at once if one of these is in it. In text, quotes are escaped, so that
# they find little else than the events meant; finding more costs time, not truth.
_MESSAGE: Final = b'"message'
_BLOCK: Final = b'"content_block_st'
_ERROR: Final = b'"error"'
_CONTENT: Final = b'"content_block_'

_PIECE: Final = re.compile(
    rb'(?:event: content_block_delta\n)?+data: ?\{ ?"type' + COLON + rb'"content_block_delta"'
    + COMMA + rb'"index' + COLON + INTEGER + COMMA + rb'"delta' + COLON + rb'\{ ?"type' + COLON
    + rb'"(?:text_delta"' + COMMA + rb'"(text)|thinking_delta"' + COMMA + rb'"(thinking)'
    rb'|input_json_delta"' + COMMA + rb'"partial_json)' + COLON + rb'"(' + STRING
    + rb')" *+\} *+\}[ \t]*+\n\n'
)  # fmt: skip


class AnthropicMessagesMeter(StreamMeter, AnthropicAnswer):
    """Reads one answer; see :class:`~taximeter.wire.base.Meter`.

    Beyond that protocol:

    Attributes:
        context_tokens: The largest single prompt, where ``usage.input_tokens`` sums the turns of
            an internal loop: exact where the answer lists its turns, else estimated. None where
            the input is one prompt.
        region: Where inference ran, as answered (``"us"``, ``"global"``), or None.
        facts: ``usage_final`` (a stop reason and its usage were seen, so that the figures are
            final even when ``message_stop`` is missing), ``refused_before_output`` (not billed),
            ``region``, ``speed``, ``fallback`` (another model than the asked one served).

    Until ``terminal`` (or ``usage_final``) the input is exact, and ``usage.output_tokens`` is the
    placeholder of ``message_start``: a lower bound, not a figure.
    """

    def __init__(self, request: WireRequest | None = None, *, whole_events: bool = False) -> None:
        StreamMeter.__init__(self, whole_events=whole_events)
        AnthropicAnswer.__init__(self, request)
        self._asked = request.model if request is not None else ""

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now."""
        if self._quick and not self._held and data.endswith(b"\n\n"):
            # One delta and nothing else is the most frequent chunk, and the quickest to tell.
            size = len(data)
            if not data.startswith(_DELTA) or data.find(b"\n", len(_DELTA)) != size - 2:
                self._read_block(data)
            self._blocks.append(data)
            self._kept = kept = self._kept + size
            if kept > PENDING_BYTES_MAX:
                self._shrink()
            return data
        return self._receive_slowly(data)

    def ending(self, usage: Usage | None = None) -> bytes:
        """``content_block_stop`` for open blocks, ``message_delta`` (max_tokens), ``message_stop``.

        Empty for an answer that is not a stream, has ended, or has told an error.
        """
        if self.terminal or self._body is not None or self.error is not None:
            return b""
        return anthropic_ending.ending(
            started=self.started,
            open_blocks=self.open_blocks,
            reason_given=self.reason_given,
            model=self.model or self._asked,
            usage=usage or self.usage,
        )

    def _read_block(self, block: bytes) -> None:
        if not (_MESSAGE in block or _BLOCK in block or _ERROR in block):
            return
        for _, data in read_events(block):
            if self._silent:
                return
            if _MESSAGE in data or _BLOCK in data or _ERROR in data:
                try:
                    event = read_json(data)
                    if isinstance(event, dict):
                        self.read(event)
                except WireError as exc:
                    if _CONTENT not in data:  # A damaged piece of text changes no figure.
                        self._fall_silent(exc)

    def _decode(self, block: bytes) -> Iterator[Piece]:
        for found in split_known(_PIECE, block):
            if isinstance(found, bytes):
                yield from _parse(found)
                continue
            text, thinking, raw = found.groups()
            if raw:
                piece = text_of(raw)
                if text is not None:
                    yield piece, "", ""
                else:
                    yield ("", piece, "") if thinking is not None else ("", "", piece)

    def _read_body(self, document: object) -> None:
        if not isinstance(document, dict):
            self._fall_silent(WireError("the body is not a JSON object"))
            return
        self.read(document)
        if document.get("type") == "message":
            self._visible.add(filter(any, _pieces(document)))


def _parse(block: bytes) -> Iterator[Piece]:
    """The output that a block of events carries."""
    for event in read_objects(block, b"content_block_delta", _BLOCK, b'"message"'):
        yield from filter(any, _pieces(event))


def _pieces(event: Mapping[str, Any]) -> Iterator[Piece]:
    match event.get("type"):
        case "content_block_delta":
            yield _delta(event.get("delta"))
        case "content_block_start":
            yield _content(event.get("content_block"))
        case "message":
            yield from map(_content, items(event.get("content")))


def _delta(delta: object) -> Piece:
    if not isinstance(delta, dict):
        return "", "", ""
    match delta.get("type"):
        case "text_delta":
            return string(delta.get("text")), "", ""
        case "thinking_delta":
            return "", string(delta.get("thinking")), ""
        case "input_json_delta":
            return "", "", string(delta.get("partial_json"))
        case "compaction_delta":  # A summary that the model writes for itself, and shows.
            return string(delta.get("content")), "", ""
    return "", "", ""


def _content(block: object) -> Piece:
    """Text that a content block starts with, or has. Results of server tools are not output."""
    if not isinstance(block, dict):
        return "", "", ""
    match block.get("type"):
        case "text":
            return string(block.get("text")), "", ""
        case "thinking":
            return "", string(block.get("thinking")), ""
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            arguments = block.get("input")
            shown = json.dumps(arguments, ensure_ascii=False) if arguments else ""
            return "", "", string(block.get("name")) + shown
    return "", "", ""


class AnthropicMessages:
    """The wire; see :class:`~taximeter.wire.base.Wire`."""

    name = "anthropic.messages"

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        """The facts of a request. Odd or missing fields are read as absent, never an error."""
        return anthropic_request.read_request(path, body)

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        """Path and body with these changes. ``include_usage`` needs none here.

        Raises:
            ValueError: ``output_cap`` leaves no room above the request's thinking budget, which
                Anthropic refuses. Hold more, or lower the budget.
        """
        return anthropic_request.rewrite(request, output_cap=output_cap, model=model)

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> Meter:
        """A meter for one answer. The answer's first byte decides the framing."""
        return AnthropicMessagesMeter(request, whole_events=whole_events)


WIRE: Final = AnthropicMessages()
