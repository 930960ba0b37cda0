"""Gemini: ``models/MODEL:generateContent`` and ``:streamGenerateContent``, Google AI and Vertex.

Every event of a stream is a whole ``GenerateContentResponse`` with the next piece of text. With
``alt=sse`` they come as events (CRLF), without it as the elements of one JSON array. There is no
event that says "the end"; a ``finishReason`` does. The running figures may fall and jump, so the
last ones count, and nothing but the last ones is ever parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from taximeter.errors import WireError
from taximeter.usage import Part, Usage
from taximeter.wire import gemini_request, gemini_usage
from taximeter.wire.base import PENDING_BYTES_MAX, Meter, WireRequest
from taximeter.wire.body import items, mapping, string
from taximeter.wire.streams import StreamMeter, read_objects
from taximeter.wire.visible import Piece

Finish = Literal["stop", "length", "tool", "filter", "error", "other"]

FINISHES: Final[Mapping[object, Finish]] = {
    "STOP": "stop",
    1: "stop",
    "MAX_TOKENS": "length",
    2: "length",
    "SAFETY": "filter",
    3: "filter",
    "RECITATION": "filter",
    4: "filter",
    "LANGUAGE": "filter",
    "BLOCKLIST": "filter",
    "PROHIBITED_CONTENT": "filter",
    "SPII": "filter",
    "MODEL_ARMOR": "filter",
    "IMAGE_SAFETY": "filter",
    "IMAGE_PROHIBITED_CONTENT": "filter",
    "IMAGE_RECITATION": "filter",
}

QUERIES_MAX: Final = 10_000
"""Search queries of one answer that are told apart."""

CANDIDATES_MAX: Final = 1000

_COUNT: Final = b"TokenCount"
_FINISH: Final = b'"finishReason"'
_GROUNDING: Final = b'"groundingMetadata"'
_ERROR: Final = b'"error"'
_FEEDBACK: Final = b'"promptFeedback"'
_EVENT_ENDS: Final = (b"\r\n\r\n", b"\n\n")
_LAST_WORDS: Final = (b'data: {"error"', b'data: {"promptFeedback"')


class GeminiGenerateMeter(StreamMeter):
    """Reads one answer; see :class:`~taximeter.wire.base.Meter`.

    ``usage``, ``model`` and ``service_tier`` are read off the latest figures when asked for.

    Attributes:
        context_tokens: Always None: Google does not say how a tool's prompts add up.
        facts: ``total_differs`` (the stated total is not the sum of its parts; the larger output is
            booked), ``input_missing`` (figures came without a prompt count),
            ``web_search_prompts`` (1 for a grounded answer: models before Gemini 3 charge the
            prompt and not the query).
    """

    context_tokens: int | None = None

    def __init__(self, request: WireRequest | None = None, *, whole_events: bool = False) -> None:
        super().__init__(whole_events=whole_events, arrays=True)
        self.parts: tuple[Part, ...] = ()
        self.provider_cost: Decimal | None = None
        self.finish: Finish | None = None
        self.terminal = False
        self.error: str | None = None
        self.facts: dict[str, object] = {}
        self._asked = request.model if request is not None else ""
        self._choices = min(request.choices, CANDIDATES_MAX) if request is not None else 1
        self._finished: set[int] = set()
        self._queries: set[str] = set()
        self._maps = False
        self._decoded = b""  # The latest block with figures that was decoded already.
        self._read = b""  # The block that the figures below are from.
        self._usage: Usage | None = None
        self._model: str | None = None
        self._tier: str | None = None
        self._response_id: str | None = None

    def receive_data(self, data: bytes) -> bytes:
        """Take the next chunk; return what the caller should see now."""
        if (
            self._quick
            and not self._held
            and data.endswith(_EVENT_ENDS)
            and _FINISH not in data
            and not data.startswith(_LAST_WORDS)
        ):
            self._blocks.append(data)
            self._kept = kept = self._kept + len(data)
            if kept > PENDING_BYTES_MAX:
                self._shrink()
            if self._finished:
                self._check_end(data)
            return data
        return self._receive_slowly(data)

    def receive_eof(self) -> bytes:
        """The answer has ended; return what was held back, if anything."""
        rest = super().receive_eof()
        if self._blocks and not (self._finished or self._silent):
            self._read_ends(self._blocks[-1])  # Spelled otherwise than the quick way knows.
        self._note_pending()
        if self._finished or (self._array is not None and self._array.closed):
            self.terminal = self.error is None
        return rest

    # --- figures, when someone asks -------------------------------------------------------------

    @property
    def usage(self) -> Usage | None:
        """The provider's latest figures; see :class:`~taximeter.wire.base.Meter`."""
        self._look()
        usage = self._usage
        if usage is None or not (self._queries or self._maps):
            return usage
        fees = {"web_search": len(self._queries), "maps": int(self._maps)}
        counts = {name: getattr(usage, name) for name in Usage.__slots__}
        return Usage(**counts | {"requests": {kind: n for kind, n in fees.items() if n}})

    @usage.setter
    def usage(self, value: Usage | None) -> None:
        self._usage = value

    @property
    def model(self) -> str | None:
        """The model that answered."""
        self._look()
        return self._model

    @model.setter
    def model(self, value: str | None) -> None:
        self._model = value

    @property
    def service_tier(self) -> str | None:
        """As answered: ``standard``, ``flex``, ``priority``, ``provisioned``, or None."""
        self._look()
        return self._tier

    @service_tier.setter
    def service_tier(self, value: str | None) -> None:
        self._tier = value

    def _look(self) -> None:
        """Read the latest block with figures, unless that was done: mostly it is the last one."""
        blocks = self._blocks
        newest = b""
        for back in range(1, len(blocks) + 1):
            try:
                block = blocks[-back]
            except IndexError:  # Someone is decoding meanwhile; what is gone is noted there.
                break
            if _COUNT not in block:
                continue
            newest = newest or block
            if block is self._read or self._note_figures(block):
                self._read = newest
                return
        if self._decoded is not self._read and self._decoded:
            self._note_figures(self._decoded)
        self._read = newest or self._decoded

    def _note_figures(self, block: bytes) -> bool:
        """Take over the last figures of a block; whether it had any."""
        found = [event for event in read_objects(block, _COUNT) if _has_figures(event)]
        if found:
            self._set_figures(found[-1])
        return bool(found)

    def _set_figures(self, event: Mapping[str, Any]) -> None:
        metadata = mapping(event.get("usageMetadata"))
        usage = gemini_usage.normalise(metadata)
        self._usage = usage
        self._tier = gemini_usage.service_tier(metadata)
        self._model = string(event.get("modelVersion")) or None
        self._response_id = string(event.get("responseId")) or None
        self._flag("total_differs", gemini_usage.total_differs(metadata))
        self._flag("input_missing", usage.input_tokens == 0)

    def _flag(self, name: str, value: bool) -> None:
        if value:
            self.facts[name] = True
        else:
            self.facts.pop(name, None)

    # --- events ---------------------------------------------------------------------------------

    def _read_block(self, block: bytes) -> None:
        """A finish reason, a blocked prompt or an error: what ends an answer."""
        self._read_ends(block)
        if self._finished:
            self._check_end(block)

    def _read_ends(self, block: bytes) -> None:
        if _FINISH in block or _ERROR in block or _FEEDBACK in block:
            for event in read_objects(block, _FINISH, _ERROR, _FEEDBACK):
                self._read_event(event)

    def _read_event(self, event: Mapping[str, Any]) -> None:
        for position, candidate in enumerate(map(mapping, items(event.get("candidates")))):
            reason = candidate.get("finishReason")
            if isinstance(reason, str | int) and reason not in ("", 0, "FINISH_REASON_UNSPECIFIED"):
                index = candidate.get("index", position)
                if isinstance(index, int) and len(self._finished) < CANDIDATES_MAX:
                    self._finished.add(index)
                self.finish = FINISHES.get(reason, "other")
                if self.finish == "stop" and _calls_function(candidate):
                    self.finish = "tool"
        if mapping(event.get("promptFeedback")).get("blockReason"):
            self.finish = "filter"
            self._finished.update(range(self._choices))
        if "error" in event:
            error = mapping(event["error"])
            self.error = string(error.get("status")) or string(error.get("message")) or "error"
            self.finish = "error"

    def _check_end(self, block: bytes) -> None:
        """The end: every candidate has finished, and figures were given with it or after it."""
        if self.terminal or len(self._finished) < self._choices or self.error is not None:
            return
        if _COUNT in block:
            self.terminal = True
            self._note_pending(block)

    def _read_body(self, document: object) -> None:
        if not isinstance(document, dict):
            self._fall_silent(WireError("the body is not a JSON object"))
            return
        if _has_figures(document):
            self._set_figures(document)
        self._model = string(document.get("modelVersion")) or None
        self._note_grounding(document)
        self._read_event(document)
        self._visible.add(filter(any, _pieces(document)))
        self.terminal = self.error is None and self._usage is not None

    # --- searches, which are billed by the piece ------------------------------------------------

    def _note_pending(self, block: bytes = b"") -> None:
        """Note the searches of all that is not decoded yet."""
        for raw in (*self._blocks.copy(), block):
            if _GROUNDING in raw:
                for event in read_objects(raw, _GROUNDING):
                    self._note_grounding(event)

    def _note_grounding(self, event: Mapping[str, Any]) -> None:
        for candidate in map(mapping, items(event.get("candidates"))):
            grounding = mapping(candidate.get("groundingMetadata"))
            for query in items(grounding.get("webSearchQueries")):
                # Google bills unique queries and ignores the empty ones that it lists.
                if isinstance(query, str) and query and len(self._queries) < QUERIES_MAX:
                    self._queries.add(query)
                    self.facts["web_search_prompts"] = 1
            if any("maps" in mapping(c) for c in items(grounding.get("groundingChunks"))):
                self._maps = True

    # --- output ---------------------------------------------------------------------------------

    def _decode(self, block: bytes) -> Iterator[Piece]:
        """The output of a block; what else may be asked for later is noted before it is dropped."""
        if _ERROR in block or _FEEDBACK in block:
            self._read_ends(block)
        if _GROUNDING in block:
            for event in read_objects(block, _GROUNDING):
                self._note_grounding(event)
        for event in read_objects(block, b'"candidates"', _COUNT):
            if _COUNT in block and _has_figures(event):
                self._decoded = block
            yield from filter(any, _pieces(event))

    def ending(self, usage: Usage | None = None) -> bytes:
        """A chunk with ``finishReason: MAX_TOKENS`` and usage; a JSON array is closed with it.

        Empty for an answer that is not a stream, has ended, or has told an error.
        """
        if self._body is not None or self.error is not None or self._silent:
            return b""
        open_candidates = [i for i in range(self._choices) if i not in self._finished]
        array = self._array
        if array is not None and array.closed:
            return b""
        if not open_candidates:
            return b"\n]" if array is not None else b""
        event = json.dumps(self._last_event(open_candidates, usage or self.usage)).encode()
        if array is None:
            return b"data: %b\r\n\r\n" % event
        return (b",\r\n" if self._elements else b"[") + event + b"\n]"

    def _last_event(self, indices: list[int], usage: Usage | None) -> dict[str, Any]:
        content = {"parts": [{"text": ""}], "role": "model"}
        event: dict[str, Any] = {
            "candidates": [
                {"content": content, "finishReason": "MAX_TOKENS", "index": index}
                for index in indices
            ],
            "usageMetadata": gemini_usage.write(usage or Usage()),
            "modelVersion": self.model or self._asked,
        }
        if self._response_id:
            event["responseId"] = self._response_id
        return event


def _has_figures(event: Mapping[str, Any]) -> bool:
    return gemini_usage.has_counts(mapping(event.get("usageMetadata")))


def _pieces(event: Mapping[str, Any]) -> Iterator[Piece]:
    for candidate in map(mapping, items(event.get("candidates"))):
        for part in map(mapping, items(mapping(candidate.get("content")).get("parts"))):
            yield _piece(part)


def _piece(part: Mapping[str, Any]) -> Piece:
    if text := string(part.get("text")):
        return ("", text, "") if part.get("thought") is True else (text, "", "")
    if call := mapping(part.get("functionCall")):
        arguments = json.dumps(call.get("args", {}), ensure_ascii=False)
        return "", "", string(call.get("name")) + arguments
    return "", "", string(mapping(part.get("executableCode")).get("code"))


def _calls_function(candidate: Mapping[str, Any]) -> bool:
    parts = items(mapping(candidate.get("content")).get("parts"))
    return any("functionCall" in mapping(part) for part in parts)


class GeminiGenerate:
    """The wire; see :class:`~taximeter.wire.base.Wire`."""

    name = "gemini.generate"

    def read_request(self, path: str, body: Mapping[str, Any]) -> WireRequest:
        """The facts of a request; the model is in the path. Odd fields are read as absent."""
        return gemini_request.read_request(path, body)

    def rewrite(
        self,
        request: WireRequest,
        *,
        output_cap: int | None = None,
        model: str | None = None,
        include_usage: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        """Path and body with these changes. ``include_usage`` needs none here."""
        return gemini_request.rewrite(request, output_cap=output_cap, model=model)

    def meter(
        self,
        request: WireRequest | None = None,
        *,
        content_type: str = "",
        strip_usage: bool = False,
        whole_events: bool = False,
    ) -> Meter:
        """A meter for one answer. The answer's first byte decides the framing."""
        return GeminiGenerateMeter(request, whole_events=whole_events)


WIRE: Final = GeminiGenerate()
